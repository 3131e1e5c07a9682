"""The probes end to end on the CPU, at the smallest size that outgrows the cache."""

from __future__ import annotations

import json
import os
from pathlib import Path
import subprocess
import sys
from typing import Any

import pytest
from records import environment, measurement

from roofprobe.probes.dequant import main as dequant_main
from roofprobe.probes.gemv import main as gemv_main
from roofprobe.probes.memory import main as memory_main
from roofprobe.probes.memory import only_on

SMALL = ["--side", "host", "--seconds", "0.1", "--memory", "16M", "--json"]
SHAPE = ["--n", "512", "--k", "1056"]  # K = 33 blocks of 32: no tile divides it


@pytest.fixture(autouse=True)
def small_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose cache is 1 MiB, so that arrays of a few MiB do."""
    monkeypatch.setattr("roofprobe.environment.read_environment", environment)


def document(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    printed = capsys.readouterr()
    assert "GB/s" in printed.err, "rows go to stderr"
    found: dict[str, Any] = json.loads(printed.out)
    return found


def test_memory_measures_and_checks_the_four_patterns(capsys: pytest.CaptureFixture[str]) -> None:
    assert memory_main(SMALL) == 0
    rows = document(capsys)["measurements"]
    assert [row["op"] for row in rows] == ["read", "copy", "write", "triad"]
    per_element = [4, 8, 4, 12]
    for row, each in zip(rows, per_element, strict=True):
        assert row["bytes"] == each * row["n"]
        assert row["verified"] and row["wrong"] == 0
        assert row["side"] == "host" and row["memory"].startswith("CPU side of")
        assert row["nominal_gb_per_s"] is None and row["nominal_fraction"] is None
        assert row["gb_per_s"] == pytest.approx(row["bytes"] / row["seconds"] / 1e9)
        assert (row["ceiling_fraction"] is None) == (row["op"] == "read")
        assert row["config"]["stores"] == "non-temporal"


N, K, BATCH = 512, 1056, 3
STORED = {
    "bf16": 2 * N * K,
    "fp8": N * K + 4,
    "nvfp4": N * K // 2 + N * K // 16 + 4,
    "mxfp4": N * K // 2 + N * K // 32,
}


def test_gemv_measures_every_format_against_the_read_ceiling(capsys: pytest.CaptureFixture[str]) -> None:
    assert gemv_main([*SMALL, *SHAPE, "--no-baselines", "--batch", str(BATCH)]) == 0
    rows = document(capsys)["measurements"]
    vectors = 2 * BATCH * (N + K)
    assert {row["format"]: row["bytes"] - vectors for row in rows} == STORED
    for row in rows:
        assert row["verified"] and row["ceiling_fraction"] > 0 and row["batch"] == BATCH
        assert ("compute-bound" in (row["note"] or "")) == (row["format"] != "bf16")


def test_dequant_measures_every_format_against_the_copy_ceiling(capsys: pytest.CaptureFixture[str]) -> None:
    assert dequant_main([*SMALL, *SHAPE, "--no-baselines"]) == 0
    rows = document(capsys)["measurements"]
    assert {row["format"]: row["bytes"] - 2 * N * K for row in rows} == {
        f: STORED[f] for f in ("fp8", "nvfp4", "mxfp4")
    }
    assert all(row["verified"] and row["ceiling_fraction"] > 0 for row in rows)


def test_a_format_whose_block_does_not_divide_k_is_skipped_with_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    assert gemv_main([*SMALL, "--n", "64", "--k", "1040", "--no-baselines"]) == 0
    found = document(capsys)
    assert [row["format"] for row in found["measurements"]] == ["bf16", "fp8", "nvfp4"]
    assert "mxfp4 64x1040" in [skipped["case"] for skipped in found["skipped"]]
    with pytest.raises(SystemExit) as ended:
        gemv_main([*SMALL, "--k", "1040", "--format", "mxfp4"])
    assert ended.value.code == 2 and "1040 is not a multiple of mxfp4's block of 32" in capsys.readouterr().err


def test_a_kernel_that_stops_writing_after_its_warm_up_is_caught(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its outputs were right once: only the poison between warm-up and timing shows that they are old."""
    from roofprobe.kernels import gemv

    right, calls = gemv.gemv, []

    def tires(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        return right(*arguments, **options) if len(calls) <= 2 else None

    monkeypatch.setattr(gemv, "gemv", tires)
    # One copy alone outgrows four caches, so no output is fresh memory.
    assert gemv_main([*SMALL, "--n", "2304", "--k", "1056", "--format", "bf16", "--no-baselines"]) == 1
    (row,) = document(capsys)["measurements"]
    assert row["wrong"] and not row["verified"]


@pytest.mark.parametrize(
    ("main", "target"),
    [
        (memory_main, "roofprobe.kernels.stream_host.copy"),
        (gemv_main, "roofprobe.kernels.gemv_host.gemv_bf16"),
        (dequant_main, "roofprobe.kernels.dequant_host.dequantize_mxfp4"),
    ],
    ids=["memory", "gemv", "dequant"],
)
def test_a_kernel_that_writes_nothing_is_caught(
    main: Any, target: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(target, lambda *_, **__: None)
    assert main(SMALL if main is memory_main else [*SMALL, *SHAPE, "--no-baselines"]) == 1
    rows = document(capsys)["measurements"]
    assert any(row["wrong"] and row["invalid"] and not row["verified"] for row in rows)


def test_too_little_memory_is_one_line_with_the_size_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert memory_main(["--side", "host", "--memory", "8M"]) == 2
    printed = capsys.readouterr()
    assert "15.00 MiB needed" in printed.err and printed.err.count("\n") == 1


def test_rows_so_far_survive_an_interruption(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted_after_one(*arguments: Any) -> None:
        arguments[-1](measurement())
        raise KeyboardInterrupt

    monkeypatch.setattr("roofprobe.probes.memory.probe_memory", interrupted_after_one)
    assert memory_main(SMALL) == 3
    assert [row["op"] for row in document(capsys)["measurements"]] == ["read"]


def test_only_on_restores_the_cpus() -> None:
    before = os.sched_getaffinity(0)
    one = min(before)
    with only_on([one, 100_000]) as allowed:
        assert allowed == 1 and os.sched_getaffinity(0) == {one}
    assert os.sched_getaffinity(0) == before
    with only_on([100_000]) as allowed:
        assert allowed == 0 and os.sched_getaffinity(0) == before


@pytest.mark.parametrize("name", ["memory", "gemv", "dequant", "run", "allreduce", "collectives", "sentinels"])
def test_a_probe_is_also_a_script(name: str, tmp_path: Path) -> None:
    script = Path(__file__).parent.parent / "probes" / f"{name}.py"
    command_line = [sys.executable, str(script), "--help"]
    shown = subprocess.run(command_line, capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False)
    assert shown.returncode == 0 and f"roofprobe {name}" in shown.stdout
