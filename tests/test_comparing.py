"""Two runs, case by case: what is compared with what, what is left out and why, and the exit status."""

from __future__ import annotations

import json
from math import exp
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from records import collective, environment, gemv, measurement, timing

from roofprobe.comparison.command import main
from roofprobe.measurement import CollectiveMeasurement, Device, Ended, Measurement, Record
from roofprobe.run_file import RunWriter

READ_SECONDS = 0.020


def noisy(seconds: float, seed: int = 0, **changes: Any) -> dict[str, Any]:
    """`changes` with 15 samples within 1 % of `seconds`, as a row's fields."""
    draws = Random(seed)
    return {"timing": timing([seconds * draws.uniform(0.99, 1.01) for _ in range(15)], **changes)}


def kernel(slowdown: float = 0.0, read_seconds: float = READ_SECONDS, seed: int = 0, **changes: Any) -> Measurement:
    """A GEMV that takes 1 + slowdown times its share of the reference's time."""
    took = 0.625 * read_seconds * (1 + slowdown)
    return gemv(**{**noisy(took, seed, reference_seconds=(read_seconds,) * 15), **changes})


def write(path: Path, *records: Record, **facts: Any) -> Path:
    """A run's folder."""
    writer = RunWriter(path / "measurements.jsonl")
    for record in (environment(**facts), *records, Ended(seconds=1.0, interrupted=False)):
        writer.write(record)  # type: ignore[arg-type]
    writer.close()
    return path


def compared(capsys: pytest.CaptureFixture[str], base: Path, new: Path) -> tuple[int, dict[str, Any]]:
    status = main([str(base), str(new), "--json"])
    printed = capsys.readouterr()
    document: dict[str, Any] = json.loads(printed.out)
    assert document["exit_status"] == status
    return status, document


def verdicts(document: dict[str, Any]) -> list[str]:
    return [case["verdict"] for case in document["cases"]]


@pytest.mark.parametrize(
    ("slowdown", "verdict", "status"),
    [(0.10, "regression", 1), (0.025, "inconclusive", 3), (0.0, "unchanged", 0), (-0.15, "improvement", 0)],
    ids=["twice the limit", "half the limit", "the same", "faster"],
)
def test_a_kernels_share_of_its_ceiling_decides(
    slowdown: float, verdict: str, status: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, new = write(tmp_path / "a", kernel()), write(tmp_path / "b", kernel(slowdown, seed=1))
    found, document = compared(capsys, base, new)
    (case,) = document["cases"]
    assert (case["verdict"], found) == (verdict, status)
    assert case["ratio"] == pytest.approx(1 / (1 + slowdown), rel=0.01)
    assert case["interval"][0] < case["ratio"] < case["interval"][1]
    assert case["limit"] == 0.05
    assert case["calibrated"] is False and case["spread"] is None
    assert case["unit"] == "share of read" and case["base"] == pytest.approx(0.8, rel=0.01)
    assert any("not calibrated" in remark for remark in document["remarks"])


def test_a_machine_that_slows_down_is_seen_in_its_read_and_not_in_every_kernel(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = write(tmp_path / "a", measurement(**noisy(0.010)), kernel())
    new = write(tmp_path / "b", measurement(**noisy(0.015)), kernel(read_seconds=1.5 * READ_SECONDS))
    status, document = compared(capsys, base, new)
    assert status == 1
    assert [(case["case"]["op"], case["verdict"]) for case in document["cases"]] == [
        ("read", "regression"),
        ("gemv", "unchanged"),
    ]
    assert document["cases"][0]["unit"] == "GB/s"


def test_noisy_reads_that_nothing_calibrated_are_left_open(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A read has no reference: where its samples differ by 8 %, one process a side can't tell 12 % from chance."""

    def read(factor: float) -> Measurement:
        samples = [0.010 * factor * exp(0.08 * z) for z in (-2, -1.5, -1, -0.7, -0.3, 0, 0.3, 0.7, 1, 1.5, 2)]
        return measurement(timing=timing(samples))

    base = write(tmp_path / "a", read(1.0))
    status, document = compared(capsys, base, write(tmp_path / "b", read(1.12)))
    assert (status, verdicts(document)) == (3, ["inconclusive"])
    status, document = compared(capsys, base, write(tmp_path / "c", read(1.5)))
    assert (status, verdicts(document)) == (1, ["regression"])
    assert "5 processes a side, taken in turn, tell" in document["cases"][0]["remarks"][0]
    for number in range(6):
        write(tmp_path / "many" / str(number), read(1.0))
        write(tmp_path / "slow" / str(number), read(1.20))
    status, document = compared(capsys, tmp_path / "many", tmp_path / "slow")
    assert (status, verdicts(document), document["cases"][0]["remarks"]) == (1, ["regression"], [])


def test_several_processes_a_side_tell_what_one_can_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """8 % slower is inconclusive from one process each without a calibration, and plain from six."""
    for number in range(6):
        write(tmp_path / "base" / str(number), kernel(seed=number))
        write(tmp_path / "new" / str(number), kernel(0.08, seed=10 + number))
    status, document = compared(capsys, tmp_path / "base" / "0", tmp_path / "new" / "0")
    assert (status, verdicts(document)) == (3, ["inconclusive"])
    status, document = compared(capsys, tmp_path / "base", tmp_path / "new")
    assert (status, verdicts(document)) == (1, ["regression"])
    assert document["cases"][0]["base_processes"] == document["cases"][0]["new_processes"] == 6
    assert len(document["base"]) == 6


def test_a_folder_of_measurement_files_is_several_processes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        run = write(tmp_path / str(number), kernel(seed=number))
        (run / "measurements.jsonl").rename(tmp_path / f"{number}.jsonl")
    status, document = compared(capsys, tmp_path, tmp_path / "1.jsonl")
    assert status == 0
    assert document["cases"][0]["base_processes"] == 3


def test_a_case_that_vanished_is_missing_and_nothing_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = write(tmp_path / "a", kernel(), kernel(format="nvfp4"))
    status, document = compared(capsys, base, write(tmp_path / "b", kernel()))
    assert status == 3
    assert verdicts(document) == ["missing", "unchanged"]
    assert document["cases"][0]["remarks"] == ["NEW did not measure it"]


def test_a_new_case_is_said_and_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = write(tmp_path / "b", kernel(), kernel(format="nvfp4"))
    status, document = compared(capsys, write(tmp_path / "a", kernel()), new)
    assert status == 0
    assert verdicts(document) == ["unchanged", "not compared"]
    assert document["cases"][1]["remarks"] == ["BASE did not measure it"]


UNUSABLE = {
    "contended": (
        {"timing": timing([0.0125] * 7, reference_seconds=(0.02,) * 7, rejected=dict.fromkeys(range(7), "x"))},
        "contended: 7 of 7",
    ),
    "unchecked": ({"wrong": None}, "not checked"),
    "above the ceiling": ({"nominal_gb_per_s": 50.0}, "above the nominal 50.0 GB/s"),
    "without samples": ({"timing": timing([])}, "no samples"),
    "a time of zero": ({"timing": timing([0.0] * 7)}, "not above 0"),
    "no bytes": ({"useful_bytes": 0}, "not above 0"),
    "references lost": ({"timing": timing([0.0125] * 7, reference_seconds=(0.02,))}, "not as many"),
}


@pytest.mark.parametrize("name", UNUSABLE)
@pytest.mark.parametrize("which", ["base", "new"])
def test_an_unusable_row_is_not_compared_and_says_why(
    which: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes, reason = UNUSABLE[name]
    rows = {"base": kernel(), "new": kernel(0.5)} | {which: kernel(**changes)}
    other = kernel(format="fp8")
    status, document = compared(
        capsys, write(tmp_path / "a", rows["base"], other), write(tmp_path / "b", rows["new"], other)
    )
    case = next(case for case in document["cases"] if case["case"]["format"] == "bf16")
    assert (case["verdict"], status) == ("missing", 3)
    assert reason in case["remarks"][0], case["remarks"]
    assert case["ratio"] is None


def test_what_is_unusable_on_both_sides_does_not_pass_beside_a_case_that_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes, _ = UNUSABLE["contended"]
    sides = [write(tmp_path / name, kernel(**changes), kernel(format="fp8")) for name in "ab"]
    status, document = compared(capsys, *sides)
    assert (status, verdicts(document)) == (3, ["missing", "unchanged"])


@pytest.mark.parametrize(
    ("new", "verdict", "status"), [({}, "not compared", 0), ({"wrong": 3}, "missing", 3)], ids=["mended", "still wrong"]
)
def test_a_base_that_was_wrong(
    new: dict[str, Any], verdict: str, status: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = kernel(format="fp8")
    base = write(tmp_path / "a", kernel(wrong=3), other)
    found, document = compared(capsys, base, write(tmp_path / "b", kernel(**new), other))
    case = next(case for case in document["cases"] if case["case"]["format"] == "bf16")
    assert (case["verdict"], found) == (verdict, status)


def test_a_result_that_became_wrong_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = write(tmp_path / "a", kernel())
    status, document = compared(capsys, base, write(tmp_path / "b", kernel(wrong=3)))
    assert (status, verdicts(document)) == (1, ["wrong"])
    assert "3 elements wrong" in document["cases"][0]["remarks"][0]


def test_a_contended_process_among_good_ones_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changes, _ = UNUSABLE["contended"]
    write(tmp_path / "new" / "0", kernel(seed=3))
    write(tmp_path / "new" / "1", kernel(**changes))
    status, document = compared(capsys, write(tmp_path / "base", kernel()), tmp_path / "new")
    assert status == 0
    assert document["cases"][0]["new_processes"] == 1
    assert "left out" in document["cases"][0]["remarks"][0]


GPU = Device(
    index=0,
    name="NVIDIA GB10",
    compute_capability="12.1",
    multiprocessors=48,
    l2_bytes=24 << 20,
    memory_bytes=128 << 30,
    integrated=True,
)


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"cpu_model": "another CPU"}, "cpu_model test CPU there, another CPU here"),
        ({"cpus": 1}, "cpus 2 there, 1 here"),
        ({"product": "NVIDIA DGX Spark"}, "product None there, NVIDIA DGX Spark here"),
        ({"architecture": "x86_64"}, "architecture"),
    ],
)
def test_another_machine_is_not_compared(
    facts: dict[str, Any], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, document = compared(capsys, write(tmp_path / "a", kernel()), write(tmp_path / "b", kernel(0.5), **facts))
    assert (status, verdicts(document)) == (3, ["missing"])
    assert "another machine" in document["cases"][0]["remarks"][0]
    assert reason in document["cases"][0]["remarks"][0]


def test_each_side_needs_its_own_hardware_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = kernel(), kernel(side="device", backend="triton")
    base = write(tmp_path / "a", *rows, devices=(GPU,))
    _, document = compared(capsys, base, write(tmp_path / "b", *rows, devices=(GPU,), cpus=1))
    assert {case["case"]["side"]: case["verdict"] for case in document["cases"]} == {
        "host": "missing",
        "device": "unchanged",
    }
    _, document = compared(capsys, base, write(tmp_path / "c", *rows))
    assert {case["case"]["side"]: case["verdict"] for case in document["cases"]} == {
        "host": "unchanged",
        "device": "missing",
    }
    assert "GPUs NVIDIA GB10 there, none here" in document["cases"][0]["remarks"][0]


def test_other_software_is_compared_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = write(tmp_path / "b", kernel(0.3), driver="595.10", nccl="2.30.3", variables={"NCCL_ALGO": "Ring"})
    status, document = compared(capsys, write(tmp_path / "a", kernel(), driver="590.44"), new)
    assert status == 1
    assert document["remarks"][:3] == [
        "driver: 590.44 -> 595.10",
        "nccl: none -> 2.30.3",
        "variables: none -> NCCL_ALGO=Ring",
    ]


def test_another_configuration_of_a_case_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = write(tmp_path / "a", kernel(config={"stores": "normal"}))
    _, document = compared(capsys, base, write(tmp_path / "b", kernel(config={"stores": "non-temporal"})))
    assert "configuration: {'stores': 'normal'} ->" in document["cases"][0]["remarks"][0]


@pytest.mark.parametrize(
    "changes",
    [{"n": 8192}, {"batch": 4}, {"backend": "torch"}, {"format": "fp8"}, {"residency": "hot"}, {"reference": "copy"}],
    ids=str,
)
def test_a_row_that_differs_in_its_key_is_another_case(
    changes: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, document = compared(capsys, write(tmp_path / "a", kernel()), write(tmp_path / "b", kernel(**changes)))
    assert verdicts(document) == ["missing", "not compared"]


def slower_collective(factor: float, **changes: Any) -> CollectiveMeasurement:
    found = collective()
    points = tuple(
        msgspec.structs.replace(point, in_place_seconds=tuple(factor * s for s in point.in_place_seconds))
        for point in found.points
    )
    return collective(points=points, **changes)


def test_collectives_are_compared_size_by_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, new = write(tmp_path / "a", collective()), write(tmp_path / "b", slower_collective(1.3))
    status, document = compared(capsys, base, new)
    assert (status, verdicts(document)) == (1, ["regression"] * 4)
    assert [case["case"]["bytes"] for case in document["cases"]] == [1 << 10, 1 << 15, 1 << 20, 1 << 25]
    assert document["cases"][0]["ratio"] == pytest.approx(1 / 1.3)
    other = write(tmp_path / "c", collective(transport="NET/IB"))
    status, document = compared(capsys, base, other)
    assert status == 3 and set(verdicts(document)) == {"missing", "not compared"}


def test_nothing_in_common_is_not_a_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, document = compared(capsys, write(tmp_path / "a"), write(tmp_path / "b"))
    assert status == 3 and document["cases"] == []
    assert main([str(tmp_path / "a"), str(tmp_path / "b")]) == 3
    assert "nothing to compare" in capsys.readouterr().out


def test_the_table_shows_the_worst_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = write(tmp_path / "a", kernel(), kernel(format="fp8"), kernel(format="nvfp4"))
    assert main([str(base), str(write(tmp_path / "b", kernel(), kernel(0.2, format="fp8")))]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:] if " b1 " in line] == ["regression", "missing", "unchanged"]
    assert "4096x8192 b1" in lines[1] and "80." in lines[1] and "5.0%" in lines[1]
    assert lines[-1] == "1 regression, 1 missing, 1 unchanged"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing", "missing"], "can't read missing"),
        (["."], "expected BASE and NEW"),
        ([".", "."], "holds no run"),
        (["a", "b", "--against-history"], "expected BASE and NEW"),
    ],
    ids=" ".join,
)
def test_unusable_input_is_one_line(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        status = main(arguments)
    except SystemExit as end:
        status = int(end.code or 0)
    printed = capsys.readouterr()
    assert status == 2 and said in printed.err and printed.err.count("\n") == 1 and printed.out == ""
