"""How scripts/validate_gpu reads roofprobe's commands: real records in, and no doubtful reading is ok."""

from __future__ import annotations

from collections.abc import Callable
import json
from pathlib import Path
from typing import Any

from acceptance_folders import gb10_sentinels, sentinel
from example_runs import faulty, gb10, save
from gpu_checks import command_rows, commands
from gpu_checks.launch_cost import judged
import msgspec
import pytest
from sparks import tuned

from roofprobe.load_record import sentinel_figures
from roofprobe.measurement import figures
from roofprobe.run_file import Run

Lines = Callable[[], dict[str, Any]]


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Lines:
    """What has been said since the last call, by case."""
    return lambda: {line["case"]: line for line in map(json.loads, capsys.readouterr().out.splitlines())}


def fake_roofprobe(monkeypatch: pytest.MonkeyPatch, status: int | None, found: Any, run: Run | None = None) -> None:
    def roofprobe(*arguments: str, seconds: float, to_end: float = 1) -> tuple[int | None, Any, str]:
        assert seconds > to_end
        if run is not None:
            folder = Path(arguments[arguments.index("--out") + 1])
            save(run, folder)
            for name in ("profile.json", "report.html"):
                (folder / name).write_text("x" * 2000)
        return status, found, "told on stderr"

    monkeypatch.setattr(commands, "roofprobe", roofprobe)


def test_rates_of_a_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lines: Lines) -> None:
    fake_roofprobe(monkeypatch, 0, None, gb10())
    commands.run("rates", False, 60, tmp_path)
    found = lines()
    gemv = found["device gemv gemv bf16 5120x5120 batch 1 by triton"]
    assert gemv["status"] == "ok"
    assert gemv["figures"]["gb_per_s"] == pytest.approx(221.5, rel=0.05)
    assert gemv["figures"]["ceiling_fraction"] == pytest.approx(221.5 / 231.8, rel=0.05)
    read = next(line for name, line in found.items() if name.startswith("device memory read"))
    assert read["figures"]["nominal_fraction"] == pytest.approx(231.8 / 273.1, rel=0.05)
    assert found["report.html"]["status"] == "ok"
    assert {line["status"] for line in found.values()} == {"ok"}


def test_faulty_readings_are_not_ok(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lines: Lines) -> None:
    """Wrong elements, more than the memory can do, and disturbed throughout."""
    fake_roofprobe(monkeypatch, 1, None, faulty())
    commands.run("rates", False, 60, tmp_path)
    found = lines()
    by_status = {name: line["status"] for name, line in found.items()}
    (wrong,) = [name for name, status in by_status.items() if status == "wrong"]
    (invalid,) = [name for name, status in by_status.items() if status == "invalid"]
    assert "gemv nvfp4" in wrong and "memory write" in invalid
    assert any(line["detail"].startswith("CONTENDED") for line in found.values() if line.get("detail"))
    assert by_status["roofprobe run --quick"] == "failed"


def test_an_unverified_reading_is_invalid() -> None:
    run = gb10()
    measured = figures(msgspec.structs.replace(run.measurements[0], wrong=None))
    assert command_rows.judged(measured) == ("invalid", "the result was not verified")


def test_a_run_out_of_time_keeps_its_rows_and_ends_the_part(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lines: Lines
) -> None:
    fake_roofprobe(monkeypatch, None, None, gb10())
    with pytest.raises(SystemExit, match="out of time"):
        commands.run("rates", False, 60, tmp_path)
    found = lines()
    assert found["roofprobe run --quick"]["status"] == "skipped"
    assert len(found) > 10


def test_a_command_that_dies_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lines: Lines) -> None:
    fake_roofprobe(monkeypatch, -11, None)
    for part in ("grouped", "memory_kinds", "load", "tune"):
        commands.run(part, False, 600, tmp_path)
        assert {line["status"] for line in lines().values()} == {"failed"}, part


def test_rows_and_skipped_cases_of_a_probe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lines: Lines) -> None:
    skipped = [{"probe": "gemv", "case": "mxfp4", "reason": "too little memory"}]
    rows = [figures(each) for each in gb10().measurements if each.op == "gemv"]
    fake_roofprobe(monkeypatch, 0, {"measurements": rows, "skipped": skipped})
    commands.run("grouped", False, 60, tmp_path)
    found = lines()
    assert found["gemv mxfp4"]["detail"] == "too little memory"
    assert sum(line["status"] == "ok" for line in found.values()) == len({str(row) for row in rows})


@pytest.mark.parametrize(("wrong", "status", "told"), [(0, 0, "ok"), (3, 1, "wrong"), (0, 1, "failed")])
def test_an_all_reduce(wrong: int, status: int, told: str, lines: Lines) -> None:
    columns = {"out_of_place": {"nwrong": 0}, "in_place": {"nwrong": wrong}}
    fit = [{"alpha_us": 12.345678, "beta_gb_per_s": 3.0}, {"alpha_us": 20.0, "beta_gb_per_s": 123.456}]
    command_rows.say_all_reduce("x", {"results": [columns, {"out_of_place": {}}], "fit": fit, "transport": "t"}, status)
    line = lines()["x"]
    assert line["status"] == told
    assert line["figures"] == {"sizes": 2, "transport": "t", "alpha_us": 12.35, "beta_gb_per_s": 123.5}


def test_a_load_and_its_telemetry(tmp_path: Path, lines: Lines) -> None:
    rows = [*gb10_sentinels(), sentinel("copy", "before", 400.0, 0.0, 7)]
    document = {"sentinels": [sentinel_figures(each) for each in rows], "matmul": [], "skipped": []}
    telemetry = tmp_path / "telemetry.jsonl"
    telemetry.write_text('{"t_s": 0.1, "power_w": 400.0, "fan": null}\n{"t_s": 0.2, "sentinel": "gemv"}\n')
    command_rows.say_load(json.loads(msgspec.json.encode(document)), telemetry)
    found = lines()
    assert found["device gemv before load"]["status"] == "ok"
    assert found["device copy before load"]["status"] == "invalid"
    assert not any("during" in name for name in found)
    assert found["telemetry"]["figures"] == {"samples": 1, "fields": "power_w"}
    command_rows.say_load(json.loads(msgspec.json.encode(document)), tmp_path / "none")
    assert lines()["telemetry"]["status"] == "skipped"


def test_a_tuning(lines: Lines) -> None:
    command_rows.say_tuned("tune", json.loads(msgspec.json.encode(tuned())))
    figures_of = lines()["tune"]["figures"]
    assert figures_of["config"] == "warps 8, row_groups 2, tile_bytes 256, stages 1, decode fhfma"
    assert (figures_of["speedup"], figures_of["interval"], figures_of["tried"]) == (1.1, [1.05, 1.15], 84)


def test_a_real_command_is_read_and_ended_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """An all-reduce over gloo that would take hours gets SIGTERM, and ends its ranks."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    status, found, _ = commands.roofprobe(
        "allreduce", "--ranks", "2", "-b", "8", "-e", "8", "-n", "2", "--json", seconds=60
    )
    assert (status, found["transport"][:4]) == (0, "gloo")
    long = ("allreduce", "--ranks", "2", "-b", "1M", "-e", "1M", "-n", "100000000", "--json")
    status, found, _ = commands.roofprobe(*long, seconds=commands.TO_END + 5)
    assert (status, found) == (None, None)


@pytest.mark.parametrize(
    ("away", "seconds", "status"),
    [(0.015, 0.01, "ok"), (0.03, 0.01, "failed"), (-0.03, 0.01, "failed"), (0.5, 0.001, "ok")],
    ids=["within", "longer", "shorter", "too short a sample to judge"],
)
def test_the_clocks_have_to_agree(away: float, seconds: float, status: str) -> None:
    found, told = judged(away, seconds)
    assert found == status
    assert ("no verdict" in told) == (seconds < 0.005)
