"""The commands on a GPU that a CPU plays: its code runs from end to end, and what it computes is checked."""

from __future__ import annotations

import json
import os
from pathlib import Path
import subprocess
import sys
from typing import Any

import pytest

PLAYED = Path(__file__).resolve().parent / "played_gpu"
DEVICE = ("--side", "device", "--memory", "96K", "--seconds", "0.1")
WEIGHT = ("--n", "64", "--k", "288")


def roofprobe(*arguments: str, gpus: int = 1) -> subprocess.CompletedProcess[str]:
    folders = [str(PLAYED), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(folders), "PLAYED_GPUS": str(gpus)}
    command = [sys.executable, "-P", "-m", "roofprobe", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("command", "rows"),
    [
        pytest.param(("memory",), ["read", "copy", "write", "triad"], id="memory"),
        pytest.param(("gemv", *WEIGHT, "--format", "nvfp4"), ["gemv", "gemv"], id="gemv, and torch's"),
        pytest.param(
            ("gemv", "--experts", "8", "--top-k", "2", *WEIGHT, "--format", "mxfp4", "--no-baselines"),
            ["grouped_gemv"],
            id="experts",
        ),
        pytest.param(("dequant", *WEIGHT, "--format", "fp8"), ["dequant", "dequant"], id="dequant, and torch's"),
    ],
)
def test_a_probe_of_the_device(command: tuple[str, ...], rows: list[str]) -> None:
    done = roofprobe(*command, *DEVICE, "--json")
    assert done.returncode == 0, done.stderr[-3000:]
    found: list[dict[str, Any]] = json.loads(done.stdout)["measurements"]
    assert [row["op"] for row in found] == rows
    assert {(row["side"], row["wrong"]) for row in found} == {("device", 0)}
    assert found[0]["backend"] == "triton"


@pytest.mark.parametrize("graphs", [0, 2])
def test_an_all_reduce_over_nccl(graphs: int) -> None:
    done = roofprobe("allreduce", "--ranks", "2", "-b", "8", "-e", "64", "-n", "3", "-G", str(graphs), gpus=2)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "transport: NCCL" in done.stdout
    assert done.stdout.count("NVIDIA H200") == 2
    assert "Out of bounds values : 0 OK" in done.stdout
