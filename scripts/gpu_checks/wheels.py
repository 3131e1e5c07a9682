"""Installs the wheels of a folder that this Python lacks, into a folder that goes again; no network."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
import subprocess
import sys

MOST_SECONDS = 120


def install(wheels: Path, into: Path) -> list[str]:
    """Lines to show: what was installed, and in one line each what could not be."""
    missing = [wheel for wheel in sorted(wheels.glob("*.whl")) if not _installed(wheel)]
    if not missing:
        return [f"wheels: nothing in {wheels} that is not installed already"]
    if _pip(missing, into) == "":
        return [f"wheels: installed for this run: {', '.join(_name(wheel) for wheel in missing)}"]
    lines = []
    for wheel in missing:
        problem = _pip([wheel], into)
        lines.append(f"wheels: {wheel.name}: {problem or 'installed for this run'}")
    return lines


def _name(wheel: Path) -> str:
    return "-".join(wheel.name.split("-")[:2])


def _installed(wheel: Path) -> bool:
    try:
        metadata.version(wheel.name.partition("-")[0])
    except metadata.PackageNotFoundError:
        return False
    return True


def _pip(wheels: list[Path], into: Path) -> str:
    """Empty, or why pip refused them, in a line."""
    flags = ["--quiet", "--no-index", "--no-deps", "--no-compile", "--disable-pip-version-check", "--target", str(into)]
    command = [sys.executable, "-m", "pip", "install", *flags, *map(str, wheels)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=MOST_SECONDS)
    except subprocess.TimeoutExpired:
        return f"pip took longer than {MOST_SECONDS} s"
    if done.returncode == 0:
        return ""
    told = [line for line in done.stderr.strip().splitlines() if line.strip()]
    errors = [line for line in told if line.startswith("ERROR")] or told
    return errors[-1].removeprefix("ERROR: ")[:300] if errors else f"pip ended with status {done.returncode}"
