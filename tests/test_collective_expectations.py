"""Each collective's sizes, buffers and expected values, against nccl-tests' rules and a model of what it does."""

from __future__ import annotations

import pytest
import torch

from roofprobe.collectives.all_gather import ALL_GATHER
from roofprobe.collectives.all_reduce import ALL_REDUCE
from roofprobe.collectives.all_to_all import ALL_TO_ALL
from roofprobe.collectives.broadcast import BROADCAST
from roofprobe.collectives.buffers import Buffers, buffer_bytes, make_room, moved_as_bytes
from roofprobe.collectives.collective import Call, Collective
from roofprobe.collectives.dtypes import find_dtype
from roofprobe.collectives.every import EVERY
from roofprobe.collectives.exact import NO_REDUCTION, Pattern, count_wrong, fill, poison
from roofprobe.collectives.reduce import REDUCE
from roofprobe.collectives.reduce_scatter import REDUCE_SCATTER
from roofprobe.collectives.results import SweepPlan
from roofprobe.collectives.sendrecv import SENDRECV
from roofprobe.collectives.sizes import sweep_counts
from roofprobe.errors import BadInput

CPU = torch.device("cpu")
RANKS = 3
ROOT = 1
SEED = 5


def model(name: str, inputs: list[torch.Tensor], rank: int, part: int) -> torch.Tensor | None:
    """What `rank` must receive of every rank's inputs, n parts of `part` where split; None where nothing is defined."""
    own = slice(rank * part, (rank + 1) * part)
    total = torch.stack(inputs).sum(0)
    if name == "reduce" and rank != ROOT:
        return None
    if name in ("all_gather", "all_to_all"):
        return torch.cat([x if name == "all_gather" else x[own] for x in inputs])
    return {
        "all_reduce": total,
        "reduce_scatter": total[own],
        "broadcast": inputs[ROOT],
        "reduce": total,
        "sendrecv": inputs[rank - 1],
    }[name]


every = pytest.mark.parametrize("collective", EVERY, ids=lambda c: c.name)
both_ways = pytest.mark.parametrize("in_place", [False, True], ids=["out of place", "in place"])


def pattern_of(collective: Collective, dtype: str = "float") -> Pattern:
    return Pattern(find_dtype(dtype), "sum" if collective.reduces else NO_REDUCTION, RANKS)


def received(collective: Collective, in_place: bool, count: int = 40) -> list[tuple[Call, Buffers]]:
    """Every rank's buffers after a collective that the model carries out; an undefined receive buffer is poisoned."""
    pattern = pattern_of(collective)
    counts = collective.counts(count * RANKS, RANKS, 4)
    calls = [Call(rank, RANKS, root=ROOT) for rank in range(RANKS)]
    rooms = [make_room([counts], pattern.dtype, CPU) for _ in calls]
    places = [room.in_place(counts, i) if in_place else room.out_of_place(counts) for i, room in enumerate(rooms)]
    for call, place in zip(calls, places):
        poison(place.receive, pattern.dtype)
        fill(place.send, pattern, call.rank, SEED)
    inputs = [place.send.clone() for place in places]
    for call, place in zip(calls, places):
        result = model(collective.name, inputs, call.rank, counts.count)
        if result is None:
            poison(place.receive, pattern.dtype)
        else:
            place.receive.copy_(result)
    return list(zip(calls, places))


@every
@both_ways
def test_the_expectation_is_what_the_collective_does(collective: Collective, in_place: bool) -> None:
    pattern = pattern_of(collective)
    for call, place in received(collective, in_place):
        pieces = collective.expected(call, collective.counts(120, RANKS, 4).count)
        assert sum(piece.count for piece in pieces) in (0, place.receive.numel())
        assert count_wrong(place.receive, pieces, pattern, SEED) == 0


@every
@both_ways
def test_any_element_that_a_rank_must_receive_is_checked(collective: Collective, in_place: bool) -> None:
    pattern = pattern_of(collective)
    for call, place in received(collective, in_place):
        pieces = collective.expected(call, collective.counts(120, RANKS, 4).count)
        for at in (0, place.receive.numel() // 2, place.receive.numel() - 1):
            place.receive.view(torch.int32)[at] ^= 1
            # Only reduce's root receives anything: gloo leaves partial sums with the others.
            must_see = collective is not REDUCE or call.rank == ROOT
            assert count_wrong(place.receive, pieces, pattern, SEED) == int(must_see)
            place.receive.view(torch.int32)[at] ^= 1


@every
def test_no_other_rank_and_no_other_place_would_pass(collective: Collective) -> None:
    pattern = pattern_of(collective)
    ranks = received(collective, in_place=False)
    for call, place in ranks:
        pieces = collective.expected(call, collective.counts(120, RANKS, 4).count)
        if pieces:
            assert count_wrong(place.receive.roll(1), pieces, pattern, SEED) > 0.9 * place.receive.numel()
        for other, elsewhere in ranks:
            if pieces and other.rank != call.rank and not collective.same_everywhere:
                assert count_wrong(elsewhere.receive, pieces, pattern, SEED) > 0.5 * place.receive.numel()


@pytest.mark.parametrize(
    ("collective", "total", "element_bytes", "count", "size"),
    [
        # nccl-tests: base = (total / n) & ~(16 / bytes - 1); size is the larger of sent and received, count is base.
        (ALL_GATHER, 1024, 4, 340, 4080),
        (REDUCE_SCATTER, 1024, 4, 340, 4080),
        (ALL_TO_ALL, 1024, 4, 340, 4080),
        (ALL_GATHER, 1000, 1, 320, 960),
        (ALL_GATHER, 1000, 2, 328, 1968),
        (ALL_GATHER, 1000, 8, 332, 7968),
        (ALL_GATHER, 11, 4, 0, 0),
        (ALL_REDUCE, 1001, 2, 1001, 2002),
        (BROADCAST, 1001, 2, 1001, 2002),
        (REDUCE, 1001, 2, 1001, 2002),
        (SENDRECV, 1001, 2, 1001, 2002),
    ],
    ids=lambda v: v.name if isinstance(v, Collective) else str(v),
)
def test_size_and_count_columns_are_nccl_tests(
    collective: Collective, total: int, element_bytes: int, count: int, size: int
) -> None:
    counts = collective.counts(total, RANKS, element_bytes)
    assert (counts.count, counts.largest * element_bytes) == (count, size)


def test_in_place_messages_lie_where_nccl_tests_puts_them() -> None:
    for collective, offset in ((ALL_GATHER, "send"), (REDUCE_SCATTER, "receive"), (ALL_REDUCE, None)):
        counts = collective.counts(120, RANKS, 4)
        place = make_room([counts], find_dtype("float"), CPU).in_place(counts, rank=2)
        base = min(place.send.data_ptr(), place.receive.data_ptr())
        for name in ("send", "receive"):
            starts = getattr(place, name).data_ptr() - base
            assert starts == (2 * counts.count * 4 if name == offset else 0)
    assert place.send is place.receive


@pytest.mark.parametrize(
    ("collective", "factors"),
    [(ALL_REDUCE, (0, 1, 1.5)), (ALL_GATHER, (0, 0.5, 0.75)), (REDUCE_SCATTER, (0, 0.5, 0.75)),
     (ALL_TO_ALL, (0, 0.5, 0.75)), (BROADCAST, (1, 1, 1)), (REDUCE, (1, 1, 1)), (SENDRECV, (1, 1, 1))],
    ids=lambda v: v.name if isinstance(v, Collective) else "",
)  # fmt: skip
def test_bus_factors_at_1_2_and_4_ranks(collective: Collective, factors: tuple[float, ...]) -> None:
    assert tuple(collective.bus_factor(n) for n in (1, 2, 4)) == factors


PLAN = SweepPlan(
    min_bytes=8, max_bytes=512, step_bytes=0, step_factor=2, iterations=1, warmup_iterations=0, checks=1, blocking=0,
    graph_launches=0, per_iteration=False, dtype="float", reduction="sum",
)  # fmt: skip


def test_a_split_message_is_swept_once_a_size_that_holds_whole_parts() -> None:
    sizes = sweep_counts(PLAN, find_dtype("float"), ALL_GATHER, RANKS)
    assert [(c.count, c.send, c.receive) for c in sizes] == [(4, 4, 12), (8, 8, 24), (20, 20, 60), (40, 40, 120)]
    assert buffer_bytes(sizes, find_dtype("float")) == 4 * (40 + 120)
    assert [c.count for c in sweep_counts(PLAN, find_dtype("float"), SENDRECV, RANKS)] == [2, 4, 8, 16, 32, 64, 128]
    with pytest.raises(BadInput, match="all_gather needs at least 640 bytes, 16 for each of 40 ranks; -e is 512"):
        sweep_counts(PLAN, find_dtype("float"), ALL_GATHER, 40)


def test_float8_is_moved_as_bytes_where_gloo_refuses_it_and_nothing_is_reduced() -> None:
    float8, half = find_dtype("fp8_e4m3"), find_dtype("half")
    assert [c.name for c in EVERY if moved_as_bytes(c, float8, "gloo")] == [
        "all_gather", "broadcast", "all_to_all", "sendrecv"
    ]  # fmt: skip
    assert not any(moved_as_bytes(c, float8, "nccl") or moved_as_bytes(c, half, "gloo") for c in EVERY)


def test_a_root_alone_sends_in_broadcast_and_everyone_elsewhere() -> None:
    for collective in EVERY:
        senders = [rank for rank in range(RANKS) if collective.sends(Call(rank, RANKS, root=ROOT))]
        assert senders == ([ROOT] if collective is BROADCAST else [0, 1, 2])
