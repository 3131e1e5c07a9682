"""The main job as a process: what it leaves behind when it ends, is interrupted, is killed or finds a full disk."""

from __future__ import annotations

import json
from pathlib import Path
import signal
import subprocess
import sys
import time
from typing import Any

import jsonschema
import pytest
from records import GPU, collective, environment

from roofprobe.measurement import CollectiveMeasurement
from roofprobe.probes import run as run_probe
from roofprobe.probes.grouped import ExpertShape
from roofprobe.probes.run import collective_groups, default_folder, main
from roofprobe.probes.weights import Shape
from roofprobe.profile import TuningProfile, json_schema
from roofprobe.run_file import read_run

SHORT = run_probe.Thoroughness(
    memory_seconds=0.1,
    kernel_seconds=0.1,
    collective_seconds=1,
    shapes=(Shape(512, 1040), Shape(512, 1040, batch=3)),
    experts=(ExpertShape(128, 1040, experts=4, top_k=2),),
    baselines=False,
)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a cache of 1 MiB, a plan of a second, and an all-reduce that is not measured again here."""
    monkeypatch.setattr("roofprobe.environment.read_environment", environment)
    monkeypatch.setattr(run_probe, "QUICK", SHORT)
    monkeypatch.setattr("roofprobe.probes.allreduce.measure_local", lambda *_, **__: collective())


def run(out: Path, *more: str) -> int:
    return main(["--quick", "--side", "host", "--memory", "24M", "--out", str(out), *more])


@pytest.mark.usefixtures("small")
def test_leaves_records_profile_and_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "folder"
    assert run(out) == 0
    assert sorted(path.name for path in out.iterdir()) == ["measurements.jsonl", "profile.json", "report.html"]
    records = read_run(out)
    # Four patterns; three formats of two shapes, since MXFP4's block of 32 does not divide K = 1040; two
    # dequantizations, since a batch makes no other weight; three formats of experts.
    ops = [m.op for m in records.measurements[4:]]
    assert [m.probe for m in records.measurements[:4]] == ["memory"] * 4
    assert ops == ["gemv"] * 6 + ["dequant"] * 2 + ["grouped_gemv"] * 3
    assert [s.case for s in records.skipped if "mxfp4" in s.case] == ["mxfp4 512x1040"] * 3 + ["mxfp4 128x1040"]
    assert all(m.verified for m in records.measurements)
    assert records.ended is not None and not records.ended.interrupted
    profile = TuningProfile.load(out / "profile.json")
    assert set(profile.ceilings["host"]) == {"read", "copy", "write", "triad"}
    assert len(profile.kernels) == 11 and len(profile.collectives) == 1
    assert {(kernel.experts, kernel.top_k) for kernel in profile.kernels[8:]} == {(4, 2)}
    jsonschema.validate(json.loads((out / "profile.json").read_text()), json_schema())
    printed = capsys.readouterr()
    ceiling, first_row = printed.out.index("nominal ceiling"), printed.out.index("host   read")
    assert ceiling < first_row, "the ceiling is printed before the measurement"
    assert "[1/" in printed.err, "plain progress lines where there is no terminal"


@pytest.mark.usefixtures("small")
def test_a_run_is_kept_in_the_machines_history_unless_told_not_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    history = tmp_path / "history.jsonl"
    monkeypatch.setenv("ROOFPROBE_HISTORY", str(history))
    assert run(tmp_path / "not kept", "--no-history") == 0
    assert not history.exists()
    assert run(tmp_path / "kept") == 0
    assert f"history  {history}" in capsys.readouterr().out
    (line,) = history.read_bytes().splitlines()
    assert json.loads(line)["folder"] == str(tmp_path / "kept")


@pytest.mark.usefixtures("small")
def test_json_leaves_stdout_to_the_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "out", "--json") == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["schema"] == "roofprobe/profile/1"
    assert "host   read" in printed.err


@pytest.mark.usefixtures("small")
def test_an_earlier_run_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "measurements.jsonl").write_text("precious\n")
    assert run(tmp_path) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert (tmp_path / "measurements.jsonl").read_text() == "precious\n"


@pytest.mark.usefixtures("small")
def test_a_wrong_collective_fails_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = collective()
    points = tuple(type(p)(**{**{f: getattr(p, f) for f in p.__struct_fields__}, "wrong": 1}) for p in wrong.points)

    def measured(*_: Any, **__: Any) -> CollectiveMeasurement:
        return collective(points=points)

    monkeypatch.setattr("roofprobe.probes.allreduce.measure_local", measured)
    assert run(tmp_path / "out") == 1


@pytest.mark.usefixtures("small")
def test_a_collective_that_fails_leaves_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from roofprobe.errors import RoofprobeError

    def died(*_: Any, **__: Any) -> CollectiveMeasurement:
        raise RoofprobeError("all-reduce over 2 ranks: rank 1 died")

    monkeypatch.setattr("roofprobe.probes.allreduce.measure_local", died)
    assert run(tmp_path / "out") == 1
    assert len(read_run(tmp_path / "out").measurements) == 15
    assert (tmp_path / "out" / "profile.json").exists() and (tmp_path / "out" / "report.html").exists()
    assert "rank 1 died" in capsys.readouterr().out


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_an_interruption_keeps_what_was_measured(signal_number: int, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "roofprobe", "run", "--side", "host", "--memory", "500M", "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 120
        while (
            not (out / "measurements.jsonl").exists()
            or b'"measurement"' not in (out / "measurements.jsonl").read_bytes()
        ):
            assert time.monotonic() < deadline and process.poll() is None, process.communicate()
            time.sleep(0.05)
        process.send_signal(signal_number)
        printed, complaints = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 3, complaints
    assert "interrupted" in printed and "kept" in printed and "Traceback" not in complaints
    kept = read_run(out)
    assert len(kept.measurements) >= 1
    assert kept.ended is not None and kept.ended.interrupted
    assert "read" in TuningProfile.load(out / "profile.json").ceilings["host"]
    assert (out / "report.html").exists()


@pytest.mark.usefixtures("small")
def test_a_full_disk_is_one_line_and_keeps_the_earlier_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from roofprobe.run_file import RunWriter

    write = RunWriter.write

    def write_until_full(self: RunWriter, record: Any) -> None:
        if getattr(record, "op", None) == "write":
            self._file = open("/dev/full", "ab")  # noqa: SIM115
        write(self, record)

    monkeypatch.setattr(RunWriter, "write", write_until_full)
    assert run(tmp_path / "out") == 3
    assert "No space left" in capsys.readouterr().err
    assert [m.op for m in read_run(tmp_path / "out").measurements] == ["read", "copy"]
    assert not (tmp_path / "out" / "profile.json").exists()


@pytest.mark.usefixtures("small")
def test_a_run_that_can_not_begin_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "a" / "b"
    assert main(["--side", "host", "--memory", "1M", "--out", str(out)]) == 2
    assert "15.00 MiB needed" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_world_sizes_follow_the_devices() -> None:
    assert collective_groups(environment()) == [2]
    assert collective_groups(environment(devices=(GPU,))) == [1]
    assert collective_groups(environment(devices=(GPU, GPU, GPU))) == [1, 2, 3]


def test_default_folder_names_time_and_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "a host/../x")
    folder = default_folder()
    assert folder.parent == Path("results")
    assert folder.name.endswith("Z-a-host-..-x") and "/" not in folder.name


@pytest.mark.usefixtures("small")
def test_a_missing_library_costs_the_drawing_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "roofprobe.report", raising=False)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert run(tmp_path / "run", "--no-history") == 0
    told = capsys.readouterr().out
    assert f"report   not drawn: jinja2 is not installed; `roofprobe report {tmp_path / 'run'}` draws it" in told
    assert TuningProfile.load(tmp_path / "run" / "profile.json").kernels
