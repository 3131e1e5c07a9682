"""A machine's history: where it is, what a run and a calibration leave there, and what compare takes from it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from records import environment, gemv, measurement
from test_comparing import kernel, write

from roofprobe.comparison.command import main
from roofprobe.comparison.comparable import readings
from roofprobe.comparison.history import (
    KindSpread,
    PastCalibration,
    append_line,
    history_file,
    machine_key,
    read_history,
    remember,
    spreads,
)
from roofprobe.errors import BadInput, RoofprobeError
from roofprobe.measurement import Device
from roofprobe.run_file import read_run


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty history of this machine."""
    path = tmp_path / "state" / "history.jsonl"
    monkeypatch.setenv("ROOFPROBE_HISTORY", str(path))
    return path


def calibration(kind: str, spread: float) -> PastCalibration:
    found = KindSpread(
        kind=kind, spread=spread, neighbours_spread=spread, apart_spread=spread, pairs=20, false_alarms=0
    )
    return PastCalibration(environment=environment(), kinds=(found,))


def test_the_file_is_the_machines_unless_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    monkeypatch.delenv("ROOFPROBE_HISTORY")
    assert history_file(environment()) == Path("/state/roofprobe/test-cpu-2-cpus/history.jsonl")
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "/home/ada")
    assert history_file(environment()) == Path("/home/ada/.local/state/roofprobe/test-cpu-2-cpus/history.jsonl")
    monkeypatch.setenv("ROOFPROBE_HISTORY", "here.jsonl")
    assert history_file(environment()) == Path("here.jsonl")
    monkeypatch.setenv("ROOFPROBE_HISTORY", "")
    assert history_file(environment()) is None


def test_the_key_names_what_the_machine_is_and_not_which() -> None:
    gpu = Device(
        index=0,
        name="NVIDIA GB10",
        compute_capability="12.1",
        multiprocessors=48,
        l2_bytes=1,
        memory_bytes=1,
        integrated=True,
    )
    spark = environment(
        product="NVIDIA NVIDIA_DGX_Spark", cpu_model="10x Cortex-A725 + 10x Cortex-X925", cpus=20, devices=(gpu,)
    )
    assert machine_key(spark) == "nvidia-nvidia-dgx-spark-10x-cortex-a725-10x-cortex-x925-20-cpus-nvidia-gb10"
    assert machine_key(environment(product="../../etc", cpu_model="/")) == "etc-2-cpus"
    assert "testhost" not in machine_key(environment())


def test_a_runs_usable_rows_are_remembered_in_one_figure_each(tmp_path: Path, file: Path) -> None:
    run = write(tmp_path / "run", measurement(), gemv(), gemv(format="fp8", wrong=None))
    assert remember(read_run(run), run) == f"history  {file}"
    (line,) = read_history(file)
    assert [(case.key.op, round(case.rate, 6)) for case in line.cases] == [("read", 100.0), ("gemv", 0.8)]  # type: ignore[union-attr]
    assert file.read_bytes().count(b"\n") == 1


def test_a_run_without_a_usable_row_leaves_nothing(tmp_path: Path, file: Path) -> None:
    run = write(tmp_path / "run", gemv(wrong=None))
    assert remember(read_run(run), run) is None
    assert not file.exists()


def test_a_history_that_can_not_be_written_is_said_and_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROOFPROBE_HISTORY", "/proc/none/here")
    run = write(tmp_path / "run", gemv())
    said = remember(read_run(run), run)
    assert said is not None and said.startswith("history  not kept: can't append to /proc/none/here")


def test_a_torn_line_is_cut_off_and_the_rest_kept(file: Path) -> None:
    append_line(file, calibration("a", 0.01))
    with open(file, "ab") as torn:
        torn.write(b'{"record":"run","envi')
    assert len(read_history(file)) == 1
    append_line(file, calibration("b", 0.02))
    assert spreads(read_history(file)) == {"a": 0.01, "b": 0.02}


def test_a_line_that_is_none_is_named(file: Path) -> None:
    file.parent.mkdir()
    file.write_text('{"record":"other"}\n')
    with pytest.raises(BadInput, match="line 1"):
        read_history(file)
    with pytest.raises(RoofprobeError, match="line 1"):
        append_line(file, calibration("a", 0.01))
    assert file.read_text() == '{"record":"other"}\n'


def test_the_latest_calibration_of_a_kind_counts(file: Path) -> None:
    for kind, spread in (("a", 0.01), ("b", 0.02), ("a", 0.03)):
        append_line(file, calibration(kind, spread))
    assert spreads(read_history(file)) == {"a": 0.03, "b": 0.02}


@pytest.mark.parametrize(
    ("spread", "verdict", "status"), [(0.002, "regression", 1), (0.04, "inconclusive", 3), (None, "inconclusive", 3)]
)
def test_compare_takes_the_machines_own_spread(
    spread: float | None,
    verdict: str,
    status: int,
    tmp_path: Path,
    file: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """7 % slower: plain on a quiet machine, within 3 x 4 % on a noisy one, and untold without a calibration."""
    base, new = write(tmp_path / "a", kernel()), write(tmp_path / "b", kernel(0.07, seed=1))
    if spread is not None:
        (reading,) = readings(read_run(base))
        append_line(file, calibration(reading.key.kind, spread))
    assert main([str(base), str(new), "--json"]) == status
    (case,) = json.loads(capsys.readouterr().out)["cases"]
    assert case["verdict"] == verdict
    assert case["calibrated"] == (spread is not None)
    assert case["limit"] == pytest.approx(0.1275 if spread == 0.04 else 0.05, abs=1e-3)


def test_a_run_is_compared_with_the_earlier_ones(
    tmp_path: Path, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for day in range(1, 7):
        run = write(tmp_path / str(day), kernel(seed=day), created=f"2026-01-0{day}T12:00:00+00:00")
        remember(read_run(run), run)
    new = write(tmp_path / "new", kernel(0.2), created="2026-01-06T18:00:00+00:00")
    later = write(tmp_path / "later", kernel(0.2), created="2026-01-07T12:00:00+00:00")
    for run in (new, later):
        remember(read_run(run), run)
    assert main(["--against-history", str(new), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["cases"][0]["base_processes"] == 6, "neither itself nor what came later"
    assert file.read_bytes().count(b"\n") == 8


def test_without_an_earlier_run_there_is_nothing_to_compare_with(
    tmp_path: Path, file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    new = write(tmp_path / "new", kernel())
    assert main(["--against-history", str(new)]) == 3
    assert f"{file} holds no earlier run" in capsys.readouterr().err
    monkeypatch.setenv("ROOFPROBE_HISTORY", "")
    assert main(["--against-history", str(new)]) == 3
    assert "no history is kept" in capsys.readouterr().err
