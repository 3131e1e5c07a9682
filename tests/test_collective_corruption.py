"""One corrupted element on one rank is caught and the rank named: for every collective, out of place and in place."""

from __future__ import annotations

from pathlib import Path
import re

from collective_ranks import QUICK, ranks_by_hand
import nccl_tests_output as parser
import pytest

pytest.importorskip("torch.distributed")

CORRUPT_ONE_ELEMENT = """
    import dataclasses
    import torch
    from roofprobe.collectives import every

    def corrupting(collective):
        bound = []

        def operation(send, receive, call):
            true_operation = collective.operation(send, receive, call)
            bound.append(call)
            # Out of place and in place take turns: the first is the smallest size's, the fourth in place at the next.
            # reduce gives nobody but its root a result.
            if call.rank != (0 if collective.name == "reduce" else 1) or len(bound) not in (1, 4):
                return true_operation

            def corrupted():
                true_operation()
                receive.view(torch.int32)[3] ^= 1

            return corrupted

        return dataclasses.replace(collective, operation=operation)

    every.EVERY = tuple(corrupting(collective) for collective in every.EVERY)
"""
SECTION = re.compile(r"^# Collective test starting: (\w+)$", re.MULTILINE)


def sections(text: str) -> dict[str, str]:
    """Collective -> its part of the output."""
    _, *parts = SECTION.split(text)
    return dict(zip(parts[::2], parts[1::2]))


def test_one_corrupted_element_is_counted_in_every_collective_and_way(tmp_path: Path) -> None:
    (status, out, _), *others = ranks_by_hand(
        CORRUPT_ONE_ELEMENT, tmp_path, "--collective", "all", "-b", "192", "-e", "768", *QUICK,
        name="collectives", ranks=3, launcher="srun",
    )  # fmt: skip
    assert (status, *(other[0] for other in others)) == (1, 1, 1)
    found = sections(out)
    assert len(found) == 7
    for name, text in found.items():
        out_of_place = parser.by_negative_column(text, "#wrong")
        smallest, middle, largest = out_of_place
        assert out_of_place == {smallest: 1, middle: 0, largest: 0}, name
        culprit = 0 if name == "reduce" else 1
        if name in ("all_to_all", "sendrecv"):  # no defined result in place
            assert text.count("     N/A") == 3
            where, count = str(smallest), 1
        else:
            assert parser.by_negative_column(text, "#wrong", in_place=True) == {smallest: 0, middle: 1, largest: 0}, (
                name
            )
            where, count = f"{smallest}, {middle}", 2
        assert parser.out_of_bounds(text) == (count, "FAILED")
        wrong = re.findall(r"^# wrong: rank (\d) on \S+: (.*), at sizes (.*)$", text, re.MULTILINE)
        expected = [(str(culprit), f"{count} wrong elements", where)]
        if name in ("all_reduce", "all_gather", "broadcast"):
            expected.append((str(culprit), "its bytes are not those of most ranks", where))
        assert wrong == expected, name


BLIND = """
    from roofprobe.collectives import sweep

    sweep.count_wrong = lambda *_: 0
"""


def test_the_ranks_hashes_name_the_rank_even_where_the_element_check_sees_nothing(tmp_path: Path) -> None:
    (status, out, _), *_ = ranks_by_hand(
        CORRUPT_ONE_ELEMENT + BLIND, tmp_path, "--collective", "all_reduce,all_gather,broadcast,sendrecv",
        "-b", "192", "-e", "768", *QUICK, name="collectives", ranks=3, launcher="mpirun",
    )  # fmt: skip
    assert status == 1
    found = sections(out)
    for name in ("all_reduce", "all_gather", "broadcast"):
        assert re.search(r"^# wrong: rank 1 on \S+: its bytes are not those of most ranks, at sizes \d+, \d+$",
                         found[name], re.MULTILINE)  # fmt: skip
        assert not re.search(r"^# wrong: rank [02]", found[name], re.MULTILINE)
        assert parser.out_of_bounds(found[name]) == (2, "FAILED")
    assert parser.out_of_bounds(found["sendrecv"]) == (0, "OK")


CORRUPT_THE_LAST_TIMED_OPERATION = """
    import dataclasses
    import torch
    from roofprobe.collectives import every

    TIMED = 1 + 6  # one warm-up

    def corrupting(collective):
        def operation(send, receive, call):
            true_operation = collective.operation(send, receive, call)
            calls = []

            def corrupted():
                true_operation()
                calls.append(None)
                if call.rank == 1 and len(calls) == TIMED:
                    receive.view(torch.int32)[3] ^= 1

            return corrupted

        return dataclasses.replace(collective, operation=operation)

    every.EVERY = tuple(corrupting(collective) for collective in every.EVERY)
"""


def test_the_timed_operations_are_checked_where_their_result_lasts(tmp_path: Path) -> None:
    """Of two ranks no majority is right: the element check says which one is wrong."""
    (status, out, _), (other_status, other_out, _) = ranks_by_hand(
        CORRUPT_THE_LAST_TIMED_OPERATION, tmp_path, "--collective", "all_reduce,all_gather,broadcast,reduce_scatter",
        "-b", "192", "-e", "192", *QUICK, name="collectives",
    )  # fmt: skip
    assert (status, other_status) == (1, 1)
    assert other_out == ""
    for name, text in sections(out).items():
        lasts = name in ("all_gather", "broadcast")  # a reduction in place has long overwritten its inputs
        assert parser.by_negative_column(text, "#wrong") == {192: 1}
        assert parser.by_negative_column(text, "#wrong", in_place=True) == {192: int(lasts)}, name
        assert re.findall(r"^# wrong: rank (\d) on \S+: (.*)$", text, re.MULTILINE) == [
            ("1", f"{1 + lasts} wrong elements, at sizes 192")
        ]
