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
SHAPE = ["--n", "512", "--k", "1040"]  # K = 65 blocks of 16: no tile divides it


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


def test_gemv_measures_every_format_against_the_read_ceiling(capsys: pytest.CaptureFixture[str]) -> None:
    assert gemv_main([*SMALL, *SHAPE, "--batch", "3"]) == 0
    bf16, nvfp4 = document(capsys)["measurements"]
    n, k, batch = 512, 1040, 3
    vectors = 2 * batch * (n + k)
    assert (bf16["format"], bf16["bytes"]) == ("bf16", 2 * n * k + vectors)
    assert (nvfp4["format"], nvfp4["bytes"]) == ("nvfp4", n * k // 2 + n * k // 16 + 4 + vectors)
    assert "compute-bound" in nvfp4["note"]
    for row in (bf16, nvfp4):
        assert row["verified"] and row["ceiling_fraction"] > 0 and row["batch"] == batch


def test_dequant_measures_against_the_copy_ceiling(capsys: pytest.CaptureFixture[str]) -> None:
    assert dequant_main([*SMALL, *SHAPE]) == 0
    (row,) = document(capsys)["measurements"]
    n, k = 512, 1040
    assert row["bytes"] == n * k // 2 + n * k // 16 + 4 + 2 * n * k
    assert row["verified"] and row["ceiling_fraction"] > 0


@pytest.mark.parametrize(
    ("main", "target"),
    [
        (memory_main, "roofprobe.kernels.stream_host.copy"),
        (gemv_main, "roofprobe.kernels.gemv_host.gemv_bf16"),
        (dequant_main, "roofprobe.kernels.dequant_host.dequantize_nvfp4"),
    ],
    ids=["memory", "gemv", "dequant"],
)
def test_a_kernel_that_writes_nothing_is_caught(
    main: Any, target: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(target, lambda *arguments: arguments[-2])
    assert main(SMALL if main is memory_main else [*SMALL, *SHAPE]) == 1
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


@pytest.mark.parametrize("name", ["memory", "gemv", "dequant", "run", "allreduce"])
def test_a_probe_is_also_a_script(name: str, tmp_path: Path) -> None:
    script = Path(__file__).parent.parent / "probes" / f"{name}.py"
    command_line = [sys.executable, str(script), "--help"]
    shown = subprocess.run(command_line, capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False)
    assert shown.returncode == 0 and f"roofprobe {name}" in shown.stdout
