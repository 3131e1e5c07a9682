"""`roofprobe calibrate`: real processes of one short case, what it keeps, and its arithmetic on made samples."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from records import environment, gemv, timing
from test_comparing import kernel, write

from roofprobe.comparison.calibration import FEWEST_PAIRS, aa_verdicts, apart, binomial_interval, calibrate, neighbours
from roofprobe.comparison.history import PastCalibration, read_history
from roofprobe.environment import last_level_cache_bytes
from roofprobe.errors import CannotMeasure
from roofprobe.measurement import Ended, Measurement
from roofprobe.probes import calibrate as probe
from roofprobe.probes import calibrated_rows
from roofprobe.run_file import Run, read_run


def processes(spread: float, count: int, drift: float = 0.0, seed: int = 0) -> list[list[float]]:
    """One-sample processes, neighbours of which differ by `spread`; `drift` is added from the first to the last."""
    draws = Random(seed)
    return [[draws.gauss(drift * i / count, spread / 2**0.5)] for i in range(count)]


def test_pairs_are_made_of_neighbours_and_of_those_half_the_calibration_apart() -> None:
    order = [[float(i)] for i in range(6)]
    assert neighbours(order) == [([0.0], [1.0]), ([2.0], [3.0]), ([4.0], [5.0])]
    assert apart(order) == [([0.0], [3.0]), ([1.0], [4.0]), ([2.0], [5.0])]


def test_the_spread_is_told_and_a_drift_counts_as_spread() -> None:
    still = calibrate("still", processes(0.02, 400))
    drifting = calibrate("drifting", processes(0.02, 400, drift=0.2))
    assert still is not None and drifting is not None
    assert still.spread == pytest.approx(0.02, rel=0.2)
    assert drifting.neighbours_spread == pytest.approx(0.02, rel=0.2)
    assert drifting.spread == drifting.apart_spread > 0.08


def test_few_pairs_tell_no_spread() -> None:
    assert calibrate("few", processes(0.02, 2 * FEWEST_PAIRS - 1)) is None
    found = calibrate("enough", processes(0.02, 2 * FEWEST_PAIRS))
    assert found is not None and found.pairs == FEWEST_PAIRS


def test_false_alarms_are_counted_with_the_others_spread() -> None:
    """One pair of thirty that differs by 50 % is an alarm: it does not hide in the spread that it is judged by."""
    odd = processes(0.01, 60)
    odd[31] = [0.5]
    verdicts = aa_verdicts(odd)
    assert verdicts[15] == "improvement" and verdicts.count("improvement") == 1
    found = calibrate("odd", odd)
    assert found is not None and found.false_alarms == 1


@pytest.mark.parametrize("hits", [0, 1, 7, 20])
def test_binomial_intervals_are_scipys(hits: int) -> None:
    from scipy.stats import binomtest

    expected = binomtest(hits, 20).proportion_ci(method="exact")
    assert binomial_interval(hits, 20) == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "history.jsonl"
    monkeypatch.setenv("ROOFPROBE_HISTORY", str(path))
    return path


def measured_as(monkeypatch: pytest.MonkeyPatch, rows: list[list[Measurement]]) -> list[Any]:
    """Processes whose rows are `rows`, one after the other and round again; returns who was started."""
    started: list[Any] = []

    def run_process(arguments: Any, _: Path) -> Run:
        started.append(arguments)
        return Run(
            environment=environment(),
            measurements=tuple(rows[(len(started) - 1) % len(rows)]),
            **{name: () for name in Run.__struct_fields__ if name not in ("environment", "measurements", "ended")},
            ended=Ended(seconds=1.0, interrupted=False),
        )

    monkeypatch.setattr(probe, "_run_process", run_process)
    return started


def test_what_it_finds_is_kept_for_compare(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started = measured_as(monkeypatch, [[kernel(), kernel(format="fp8")], [kernel(0.01), kernel(0.002, format="fp8")]])
    out = tmp_path / "calibration.json"
    assert probe.main(["--pairs", "10", "--json", "--out", str(out)]) == 0
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert json.loads(out.read_text()) == document
    assert len(started) == 20
    kinds = {kind["kind"]: kind for kind in document["kinds"]}
    assert set(kinds) == {"host gemv bf16 host cold", "host gemv fp8 host cold"}
    bf16 = kinds["host gemv bf16 host cold"]
    assert bf16["pairs"] == 10 and bf16["false_alarms"] == 0
    assert bf16["spread"] == pytest.approx(1.4826 * 0.01, rel=0.02)
    assert bf16["limit"] == 0.05
    assert bf16["false_alarm_interval"] == pytest.approx([0.0, 0.3085], abs=1e-4)
    (line,) = read_history(file)
    assert isinstance(line, PastCalibration) and len(line.kinds) == 2
    assert "0 [0.0%, 30.8%]" in printed.err
    assert "[20/20] process 20" in printed.err


def contended() -> Measurement:
    return gemv(timing=timing([0.0125] * 7, reference_seconds=(0.02,) * 7, rejected=dict.fromkeys(range(7), "x")))


def test_disturbed_processes_are_made_up_for(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = measured_as(monkeypatch, [[kernel()], [kernel()], [kernel()], [contended()]])
    assert probe.main(["--pairs", "12"]) == 0
    assert len(started) == 31, "24 usable ones among them"
    (line,) = read_history(file)
    assert isinstance(line, PastCalibration) and line.kinds[0].pairs == 12


def test_a_machine_that_is_too_busy_is_not_calibrated(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started = measured_as(monkeypatch, [[contended()]])
    assert probe.main(["--pairs", "10"]) == 3
    assert len(started) == 30
    assert "too few undisturbed pairs" in capsys.readouterr().out
    assert not file.exists()


def test_a_process_that_fails_ends_it_with_its_own_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert probe.main(["--pairs", "10", "--side", "host", "--memory", "1M"]) == 2
    assert "too little memory" in capsys.readouterr().err
    silent = SimpleNamespace(returncode=-9, stderr="")
    monkeypatch.setattr(probe.subprocess, "run", lambda *_, **__: silent)
    with pytest.raises(CannotMeasure, match="it said nothing") as failed:
        probe._run_process(SimpleNamespace(case=None, side="host", seconds=1.0, memory=None), Path("x"))
    assert failed.value.exit_status == 1


@pytest.mark.parametrize("name", ["copy", "triad", "gemv-bf16", "dequant-nvfp4"])
def test_a_process_measures_the_named_case_and_checks_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roofprobe.environment.read_environment", environment)
    monkeypatch.setattr(calibrated_rows, "SHAPE", calibrated_rows.Shape(512, 1024))
    out = tmp_path / "rows.jsonl"
    arguments = [str(out), name, "--side", "host", "--seconds", "0.1", "--memory", "16M"]
    assert calibrated_rows.main(arguments) == 0
    (row,) = read_run(out).measurements
    op, _, weight_format = name.partition("-")
    assert (row.op, row.format) == (op, weight_format or "float32")
    assert row.verified and row.ceiling_fraction is not None


def test_too_few_pairs_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        probe.main(["--pairs", "9"])
    assert refused.value.code == 2
    assert "below 10" in capsys.readouterr().err


def test_a_real_process_is_what_compare_reads(tmp_path: Path) -> None:
    """The one process that is started for real, with the least memory that this machine's cache asks for."""
    memory = 3 * (4 * last_level_cache_bytes() + (2 << 20))
    arguments = SimpleNamespace(case=["copy"], side="host", seconds=0.1, memory=memory)
    run = probe._run_process(arguments, tmp_path / "rows.jsonl")
    assert [m.op for m in run.measurements] == ["copy"]
    assert write(tmp_path / "base", *run.measurements).exists()
