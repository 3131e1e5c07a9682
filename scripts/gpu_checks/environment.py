"""What is here: device, driver, libraries, and which of those that roofprobe uses are missing."""

from __future__ import annotations

from importlib import metadata, util
import os
import platform
import shutil
import subprocess
from typing import Any

from gpu_checks.lines import say
from gpu_checks.machine import Machine
import torch

WANTED = {
    "numba": "the CPU side of the memory",
    "cupy": "CUDA C++ baselines, memory kinds",
    "pynvml": "telemetry",
    "jinja2": "the report",
    "matplotlib": "the report's drawings",
    "threadpoolctl": "the CPU side of the memory",
}
"""Module -> what is left out without it."""
STOOD_IN = ("msgspec", "psutil")
"""Without them nothing is left out: see the folder stand_ins."""
NAMED = ("torch", "triton", "cupy-cuda12x", "cupy-cuda13x", "numba", "msgspec", "numpy")


def run(where: Machine) -> None:
    from gpu_checks.correctness import modes

    versions = {name: version for name in NAMED if (version := _version(name)) is not None}
    facts: dict[str, Any] = {
        "device": platform.machine() if where.dry else torch.cuda.get_device_name(where.device),
        "python": platform.python_version(),
        "cuda": torch.version.cuda,
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "modes": ", ".join(modes(where, "nvfp4")),
        "cpus": len(os.sched_getaffinity(0)),
    }
    if not where.dry:
        told = torch.cuda.get_device_properties(where.device)
        facts |= {
            "compute_capability": f"{told.major}.{told.minor}",
            "multiprocessors": told.multi_processor_count,
            "l2_bytes": told.L2_cache_size,
            "memory_bytes": told.total_memory,
            "integrated": bool(told.is_integrated),
            "devices": torch.cuda.device_count(),
            "driver": _driver(),
        }
    say("machine", "ok", **facts)
    for name in STOOD_IN:
        found = util.find_spec(name)
        if found is not None and "stand_ins" in str(found.origin):
            say(f"library {name}", "ok", "not installed: a stand-in of this command's own does its work")
    for name, use in WANTED.items():
        if util.find_spec(name) is None:
            say(f"library {name}", "skipped", f"not installed; left out: {use}. A folder of wheels goes to --wheels")


def _driver() -> str | None:
    """Version, SM and memory clock, power limit, as the driver's own tool reads them; None without it."""
    if shutil.which("nvidia-smi") is None:
        return None
    fields = "driver_version,clocks.sm,clocks.mem,power.limit,ecc.mode.current,mig.mode.current"
    asked = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader", "--id=0"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, timeout=20).stdout.strip()[:200] or None
    except subprocess.TimeoutExpired:
        return None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
