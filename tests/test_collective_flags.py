"""The collective probes' command line: what can't be meant or done is refused in one line, before any measuring."""

from __future__ import annotations

from pathlib import Path

from collective_ranks import LAUNCHER_VARIABLES, ranks_by_hand
import pytest

from roofprobe.collectives.every import EVERY, find_collectives
from roofprobe.errors import BadInput
from roofprobe.probes import allreduce, collectives
from roofprobe.probes.collective_flags import parse

pytest.importorskip("torch.distributed")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--no-such-flag"], "--no-such-flag"),
        (["-b", "12Q"], "'12Q' is not a size"),
        (["-b", "64M", "-e", "8"], "-b 67108864 is above -e 8"),
        (["--ranks", "0"], "'0' is not a whole number of at least 1"),
        (["-J", "/nonexistent/out.json"], "can't write /nonexistent/out.json"),
        (["-J", "."], "it is a folder"),
        (["-t", "2"], "only 1 is possible"),
        (["-d", "float7"], "no such datatype: 'float7'"),
        (["-o", "mulsum"], "'mulsum': no such reduction"),
        (["-o", "all"], "'all': one at a time; expected one of sum,"),
        (["-d", "all"], "-d all: one datatype at a time"),
        (["-r", "-1"], "'-1': one root at a time"),
        (["-r", "x"], "'x' is not a whole number"),
        (["--minbyte", "8"], "--minbyte"),
        (["-i", "0"], "never grow"),
        (["-G", "1", "-I", "1"], "-G launches whole loops"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_bad_input_is_one_line_and_status_2(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in LAUNCHER_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    try:
        status: object = allreduce.main(arguments)
    except SystemExit as ended:
        status = ended.code
    captured = capsys.readouterr()
    assert status == 2
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert words in captured.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--collective"),
        (["--collective", "all_scatter"], "no such collective: 'all_scatter'; expected all, or some of all_reduce,"),
        (["--collective", "reduce,reduce"], "--collective has reduce twice"),
    ],
    ids=["none", "unknown", "twice"],
)
def test_the_collectives_have_to_be_named(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in LAUNCHER_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    try:
        status: object = collectives.main(arguments)
    except SystemExit as ended:
        status = ended.code
    captured = capsys.readouterr()
    assert (status, captured.out, len(captured.err.splitlines())) == (2, "", 1)
    assert words in captured.err


def test_collectives_go_by_nccl_tests_names_too() -> None:
    assert find_collectives("all") == EVERY
    assert [c.name for c in find_collectives("alltoall,All-Reduce, sendrecv")] == [
        "all_to_all", "all_reduce", "sendrecv"
    ]  # fmt: skip
    with pytest.raises(BadInput, match="''"):
        find_collectives("broadcast,")


def test_a_plan_names_the_reduction_and_the_root_only_of_those_that_have_one() -> None:
    request = parse(collectives.PROGRAM, ["--collective", "all", "-o", "max", "-r", "3"])
    columns = {c.name: (request.plan_for(c).reduction, request.plan_for(c).root) for c in request.collectives}
    assert columns == {  # as nccl-tests prints them, sendrecv's reduction too
        "all_reduce": ("max", -1), "all_gather": ("none", -1), "reduce_scatter": ("max", -1),
        "broadcast": ("none", 3), "reduce": ("max", 3), "all_to_all": ("none", -1), "sendrecv": ("max", -1),
    }  # fmt: skip


def test_several_collectives_write_a_file_each() -> None:
    several = parse(collectives.PROGRAM, ["--collective", "reduce,sendrecv", "-J", "a.b/out.json"])
    assert [str(several.output_for(c)) for c in several.collectives] == ["a.b/out.reduce.json", "a.b/out.sendrecv.json"]
    one = parse(collectives.PROGRAM, ["--collective", "reduce", "-J", "out.json"])
    assert [str(one.output_for(c)) for c in one.collectives] == ["out.json"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-b", "12Q"], "'12Q' is not a size"),
        (["-d", "fp8_e4m3"], "gloo reduces no f8e4m3"),
        (["-e", "1024T", "-b", "1024T"], "a quarter of the available memory is"),
    ],
    ids=["known at once", "known once all have joined", "known from every rank's memory"],
)
def test_bad_input_is_told_by_rank_0_alone(arguments: list[str], words: str, tmp_path: Path) -> None:
    (status, out, error), (other_status, other_out, other_error) = ranks_by_hand("", tmp_path, *arguments)
    assert (status, other_status) == (2, 2)
    assert (out, other_out, other_error) == ("", "", "")
    assert len(error.splitlines()) == 1
    assert words in error


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--collective", "all_gather,reduce", "-d", "fp8_e5m2"], "gloo reduces no f8e5m2: reduce N/A"),
        (["--collective", "all_reduce,broadcast", "-r", "2"], "-r 2 is none of the 2 ranks"),
    ],
    ids=["a type that one of them can't reduce", "a root that is no rank"],
)
def test_what_the_ranks_can_not_do_is_said_before_any_table(arguments: list[str], words: str, tmp_path: Path) -> None:
    (status, out, error), other = ranks_by_hand("", tmp_path, *arguments, name="collectives")
    assert (status, out, len(error.splitlines())) == (2, "", 1)
    assert words in error
    assert other == (2, "", "")
