"""The parts that are roofprobe's own commands: each is started as a user would start it, and its records are read.

A command that runs out of time is ended as Ctrl-C would: what it measured until then is kept, and counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.util import find_spec
import json
from pathlib import Path
import subprocess
import sys
import time
from typing import Any

from gpu_checks.command_rows import row, say_all_reduce, say_load, say_tuned
from gpu_checks.lines import say

NEEDED = {"memory_kinds": ("numpy", "numba")}
"""Part -> modules without which its command can't run; the other parts need the first."""
DRAWN_WITH = ("jinja2", "matplotlib")
"""What a run's report needs, and nothing else does."""
GPU = ("--side", "device")
DRY_RUN_SECONDS = 25.0
"""Of `roofprobe run --quick` in a dry run: enough to begin, and to show that an end before its time keeps a report."""
TO_END = 12.0
"""Seconds that an ended command has, to write its profile and report."""
TO_END_DRY = 60.0
"""The same on two busy cores, where drawing a report can take ten times what it takes on idle ones."""


def run(part: str, dry: bool, seconds: float, out: Path) -> None:
    """Runs that part within `seconds`."""
    needed = {*NEEDED.get(part, ("numpy",)), *(("numba",) if dry else ())}
    if missing := _missing(needed):
        say(f"roofprobe {part}", "skipped", f"needs {', '.join(missing)}: a folder of wheels goes to --wheels")
        return
    parts: dict[str, Callable[[bool, float, Path], None]] = {
        "rates": rates,
        "grouped": grouped,
        "all_reduce": all_reduce,
        "load": load,
        "memory_kinds": memory_kinds,
        "tune": tune,
    }
    parts[part](dry, seconds, out)


def _missing(names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if find_spec(name) is None)


def on_host() -> tuple[str, ...]:
    """A dry run's flags: the host side, with little more memory than three arrays of four last-level caches take."""
    from roofprobe.environment import last_level_cache_bytes

    return "--side", "host", "--memory", f"{max(500, 13 * last_level_cache_bytes() // 10**6)}M"


def roofprobe(*arguments: str, seconds: float, to_end: float = TO_END) -> tuple[int | None, Any, str]:
    """(exit status, the JSON on stdout or None, the last lines of stderr); status None: it ran out of time.

    Of `seconds` the last `to_end` are for ending it.
    """
    command = [sys.executable, "-P", "-m", "roofprobe", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        status: int | None = None
        try:
            stdout, stderr = process.communicate(timeout=max(1.0, seconds - to_end))
            status = process.returncode
        except subprocess.TimeoutExpired:
            stdout, stderr = _ended(process, to_end)
        except KeyboardInterrupt:
            _ended(process, to_end)
            raise
    try:
        found = json.loads(stdout)
    except ValueError:
        found = None
    told = [line for line in stderr.strip().splitlines() if line.strip()]
    return status, found, " | ".join(told[-2:])[-400:]


def _ended(process: subprocess.Popen[str], seconds: float) -> tuple[str, str]:
    process.terminate()
    try:
        return process.communicate(timeout=seconds - 2)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.communicate()


def end(case: str, status: int | None, told: str, dry: bool) -> None:
    """What a command's status says beyond its rows: nothing for 0 and 3, whose reasons the rows and skipped cases have.

    Out of time is no fault in a dry run, which is not meant to measure; else it ends the part as unfinished.
    """
    if status is None:
        say(case, "skipped", "out of time: what it had measured until then is here")
        if not dry:
            raise SystemExit(f"{case}: out of time")
    elif status not in (0, 3):
        say(case, "failed", told or f"exit status {status}", exit_status=status)


def rates(dry: bool, seconds: float, out: Path) -> None:
    """`roofprobe run --quick --baselines`: stream, GEMV and dequantization against the run's own ceilings; a report."""
    flags = ("--quick", *((*on_host(), "--no-baselines") if dry else (*GPU, "--baselines")), "--no-history")
    to_end = TO_END_DRY if dry else TO_END
    seconds = min(seconds, DRY_RUN_SECONDS + to_end) if dry else seconds
    status, _, told = roofprobe("run", *flags, "--out", str(out / "run"), "--json", seconds=seconds, to_end=to_end)
    if (out / "run" / "measurements.jsonl").is_file():
        from roofprobe.measurement import figures
        from roofprobe.run_file import read_run

        found = read_run(out / "run")
        for measured in found.measurements:
            row(figures(measured))
        for skipped in found.skipped:
            say(f"{skipped.probe} {skipped.case}", "skipped", skipped.reason)
    for name, needed in (("profile.json", ()), ("report.html", DRAWN_WITH)):
        path = out / "run" / name
        whole = path.is_file() and path.stat().st_size > 1000
        if not whole and (missing := _missing(needed)):
            say(name, "skipped", f"needs {', '.join(missing)}: `roofprobe report` draws it where they are")
        else:
            say(name, "ok" if whole else "failed", "" if whole else "missing or empty")
    end("roofprobe run --quick", status, told, dry)


def grouped(dry: bool, seconds: float, out: Path) -> None:  # noqa: ARG001
    """`roofprobe gemv --experts`: a mixture's GEMV, the chosen experts' bytes alone."""
    few = ("--experts", "8", "--top-k", "2", "--n", "64", "--k", "288", "--format", "mxfp4", "--no-baselines")
    many = ("--experts", "128", "--top-k", "4", "--n", "5760", "--k", "2880")
    flags = (*few, *on_host(), "--seconds", "0.2") if dry else (*many, *GPU, "--seconds", "1")
    _rows("gemv --experts", flags, dry, seconds)


def memory_kinds(dry: bool, seconds: float, out: Path) -> None:  # noqa: ARG001
    """`roofprobe memory-kinds`: device, pinned, managed and pageable memory, read by both sides."""
    flags = ("--seconds", "0.3", *on_host()[2:]) if dry else ("--seconds", "1", "--memory", "8G")
    _rows("memory-kinds", flags, dry, seconds)


def _rows(name: str, flags: tuple[str, ...], dry: bool, seconds: float) -> None:
    status, found, told = roofprobe(name.split()[0], *flags, "--json", seconds=seconds)
    for each in found["measurements"] if found else ():
        row(each)
    for each in found["skipped"] if found else ():
        say(f"{each['probe']} {each['case']}", "skipped", each["reason"])
    if status in (0, 3) and not found:
        say(f"roofprobe {name}", "skipped" if status else "failed", told or "it printed no JSON")
    end(f"roofprobe {name}", status, told, dry)


def all_reduce(dry: bool, seconds: float, out: Path) -> None:  # noqa: ARG001
    """NCCL over one rank, and over every GPU of this host; each again as a CUDA graph."""
    if dry:
        worlds = [2]
    else:
        import torch

        worlds = sorted({1, torch.cuda.device_count()})
    graphs: tuple[tuple[str, ...], ...] = ((),) if dry else ((), ("-G", "2"))
    runs = [(world, graph) for world in worlds for graph in graphs]
    deadline = time.monotonic() + seconds
    for i, (world, graph) in enumerate(runs):
        case = f"all_reduce, {world} rank{'s' if world > 1 else ''}{', CUDA graph' if graph else ''}"
        sizes = ("-b", "8", "-e", "64K" if dry else "64M", "-n", "10", "-w", "3")
        share = (deadline - time.monotonic()) / (len(runs) - i)
        status, found, told = roofprobe("allreduce", "--ranks", str(world), *sizes, *graph, "--json", seconds=share)
        if found is not None and status is not None:
            say_all_reduce(case, found, status)
        elif status == 3:
            say(case, "skipped", told)
        end(case, status, told, dry)


def load(dry: bool, seconds: float, out: Path) -> None:
    """`roofprobe sentinels`: GEMV, copy and matmul before, during and after a load, with NVML's telemetry beside."""
    flags = ("--seconds", "0.3", *on_host()) if dry else ("--seconds", "10", *GPU)
    status, found, told = roofprobe("sentinels", *flags, "--out", str(out / "load"), "--json", seconds=seconds)
    if found is not None:
        say_load(found, out / "load" / "telemetry.jsonl")
    end("roofprobe sentinels", status, told, dry)


def tune(dry: bool, seconds: float, out: Path) -> None:
    """`roofprobe tune`: dequantization (at most 23 configurations), then with the time left GEMV (at most 87)."""
    deadline = time.monotonic() + seconds
    shape = ("--n", "512", "--k", "512", *on_host()) if dry else ("--n", "28672", "--k", "8192", *GPU)
    for op in ("dequant",) if dry else ("dequant", "gemv"):
        case = f"roofprobe tune {op} nvfp4"
        left = deadline - time.monotonic()
        if left < TO_END + (0 if op == "dequant" else 60):
            say(case, "skipped", f"{left:.0f} s are left")
            continue
        flags = ("--op", op, "--format", "nvfp4", *shape, "--seconds", "0.05" if dry else "0.15")
        profile = ("--profile", str(out / "tuned.json"), "--json")
        status, found, told = roofprobe("tune", *flags, *profile, seconds=left)
        for entry in found["tuned"] if found else ():
            say_tuned(case, entry)
        if status is None:
            say(case, "skipped", f"stopped after {left - TO_END:.0f} s; the same command goes on: {told}"[:300])
        else:
            end(case, status, told, dry)
