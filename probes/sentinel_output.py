"""What ``roofprobe sentinels`` shows of its records: lines for people, JSON for scripts, the exit status."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Any

from roofprobe.console import skipped_line
from roofprobe.errors import FAILED, NOT_MEASURED, OK
from roofprobe.load_record import (
    Contention,
    MatmulRate,
    SentinelRun,
    contention_figures,
    matmul_figures,
    sentinel_figures,
)
from roofprobe.measurement import Skipped
from roofprobe.robust import median
from roofprobe.run_file import Run


def line_of(made: SentinelRun | MatmulRate | Contention | Skipped) -> str | None:
    """A record for people as it is made; None for a sentinel during a load, of which there is one a second."""
    match made:
        case SentinelRun(phase="during"):
            return f"{_named(made)}: {made.invalid}" if made.invalid else None
        case SentinelRun():
            return f"{_named(made)}{_rate(made.rate, made.interval, _unit(made))}{_remarks(made)}"
        case MatmulRate():
            return _matmul(made)
        case Contention():
            return "\n".join(_contention(made))
        case Skipped():
            return skipped_line(made)


def during_lines(run: Run) -> list[str]:
    """One line for each sentinel under each load: the median of its runs and the lowest of them."""

    def under(s: SentinelRun) -> tuple[str, str, str]:
        return s.side, s.beside or "", s.sentinel

    lines = []
    for _, group in groupby(sorted((s for s in run.sentinels if s.phase == "during"), key=under), key=under):
        runs = list(group)
        low = min(runs, key=lambda each: each.rate)
        beside = f" beside {low.beside}" if low.beside else ""
        remarks = f"; CONTENDED: {contended} of them" if (contended := sum(r.contended for r in runs)) else ""
        lines.append(
            f"{_named(low)}{_rate(median(r.rate for r in runs), None, _unit(low))}"
            f", lowest {_rate(low.rate, None, _unit(low)).strip()} at {low.t_s:.0f} s"
            f" ({len(runs)} runs{beside}{remarks})"
        )
    return lines


def as_json(run: Run, out: Path) -> dict[str, Any]:
    """The document of ``--json``."""
    return {
        "environment": run.environment,
        "sentinels": [sentinel_figures(s) for s in run.sentinels],
        "matmul": [matmul_figures(m) for m in run.matmuls],
        "contention": [contention_figures(c) for c in run.contentions],
        "skipped": run.skipped,
        "telemetry": str(out / "telemetry.jsonl"),
        "interrupted": run.ended is None or run.ended.interrupted,
    }


def load_status(run: Run) -> int:
    """1 where a result was wrong; else 3 where nothing was measured or a reading is invalid; else 0."""
    wrong = [each.wrong for each in run.sentinels]
    wrong += [each.wrong for each in run.matmuls]
    wrong += [each.wrong for each in run.contentions]
    if any(wrong):
        return FAILED
    invalid = [each.invalid for each in run.sentinels] + [each.invalid for each in run.matmuls]
    return NOT_MEASURED if not wrong or any(invalid) else OK


def _named(s: SentinelRun) -> str:
    return f"{s.side:<7}{s.sentinel:<8}{s.phase:<7}"


def _unit(s: SentinelRun) -> str:
    return "GB/s" if s.flops is None else "TFLOP/s"


def _rate(rate: float, interval: tuple[float, float] | None, unit: str) -> str:
    # A CPU's product is far below 1 TFLOP/s.
    digits = 1 if rate >= 10 else 3
    between = "" if interval is None else f"  [{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]"
    return f"{rate:>9.{digits}f} {unit}{between}"


def _remarks(s: SentinelRun) -> str:
    check = "not checked" if s.wrong is None else "ok" if s.invalid is None else f"INVALID: {s.invalid}"
    contended = f"; CONTENDED: {len(s.rejected)} of {len(s.seconds)} samples disturbed" if s.contended else ""
    return f"  {check}{contended}"


def _matmul(m: MatmulRate) -> str:
    rate = _rate(m.tflop_per_s, m.interval, "TFLOP/s")
    if m.peak_fraction is not None:
        told = f"{m.peak_fraction:.1%} of {m.peak_tflop_per_s:.1f} at {median(m.sm_clock_mhz):.0f} MHz"
    elif m.sm_clock_mhz:
        told = f"at {median(m.sm_clock_mhz):.0f} MHz; no source for this GPU's flops a cycle"
    else:
        told = m.note or "SM clock not told by NVML"
    check = "not checked" if m.wrong is None else "ok" if m.invalid is None else f"INVALID: {m.invalid}"
    return f"{m.side:<7}{'matmul':<8}{'rate':<7}{rate}  {told}  {check}"


def _contention(c: Contention) -> list[str]:
    """The medians over rounds of each case, and the ceiling."""
    lines = [f"contention: {c.op}, {c.memory}" + (f" ({c.note})" if c.note else "")]
    key = lambda p: (p.device, p.cpu_threads)  # noqa: E731
    for (device, threads), group in groupby(sorted(c.points, key=key), key=key):
        points = list(group)
        of_device = median(p.device_gb_per_s or 0 for p in points)
        of_host = median(p.host_gb_per_s or 0 for p in points)
        who = " + ".join(["GPU"] * device + [f"{threads} CPU thread{'s' * (threads > 1)}"] * (threads > 0))
        parts = f" = {of_device:.1f} + {of_host:.1f}" if device and threads else ""
        lines.append(f"  {who:<22}{median(p.gb_per_s for p in points):>8.1f} GB/s{parts}")
    if c.wrong:
        lines.append(f"  {c.wrong} reads gave a WRONG sum")
    fit = c.ceiling
    if fit is not None and fit.gb_per_s is not None:
        between = "" if fit.interval is None else f" [{fit.interval[0]:.1f}, {fit.interval[1]:.1f}]"
        known = f"from {fit.saturated_points} points of {fit.saturated_cases} case{'s' * (fit.saturated_cases > 1)}"
        held = "" if fit.held_out_typical is None else f"; held out: {fit.held_out_typical:.1%} off"
        lines.append(f"  shared ceiling {fit.gb_per_s:.1f} GB/s{between}, {known}{held}")
    elif fit is not None:
        lines.append(f"  no shared ceiling reached: it is at least {fit.at_least_gb_per_s:.1f} GB/s")
    return lines
