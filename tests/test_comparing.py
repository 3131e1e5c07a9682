"""Two runs, case by case: what decides, what is left out and why, and the exit status."""

from __future__ import annotations

from math import exp
from pathlib import Path
from typing import Any

from compared_runs import READ_SECONDS, compared, kernel, noisy, verdicts, write
import pytest
from records import measurement, timing

from roofprobe.measurement import Measurement


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
