"""A comparison as a table for people and as JSON for scripts."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from roofprobe.comparison.comparing import OUTCOMES, Compared, Comparison
from roofprobe.comparison.regression_rule import as_fraction

FIGURES = f"{'BASE':>12}{'NEW':>12}{'NEW/BASE':>10}  {'95 % interval':<18}{'limit':>8}"


def as_text(comparison: Comparison) -> str:
    """A line a case, the worst first, then what else has to be said."""
    width = max([len(case.key.name) for case in comparison.cases], default=0) + 2
    lines = [f"{'verdict':<14}{'case':<{width}}{FIGURES}"]
    for case in comparison.cases:
        lines.append(_row(case, width))
        lines += [f"{'':<14}{remark}" for remark in case.remarks]
    lines += ["", *comparison.remarks] if comparison.remarks else [""]
    counts = Counter(case.outcome for case in comparison.cases)
    summary = ", ".join(f"{counts[outcome]} {outcome}" for outcome in OUTCOMES if counts[outcome])
    return "\n".join([*lines, summary or "nothing to compare"])


def _row(case: Compared, width: int) -> str:
    rates = f"{_rate(case, case.base):>12}{_rate(case, case.new):>12}"
    start = f"{case.outcome:<14}{case.key.name:<{width}}{rates}"
    if case.change is None:
        return start
    low, high = case.change.interval
    interval = f"[{low:.3f}, {high:.3f}]"
    return f"{start}{case.change.ratio:>10.3f}  {interval:<18}{case.change.limit_fraction:>8.1%}"


def _rate(case: Compared, rate: float | None) -> str:
    if rate is None:
        return "-"
    if case.key.reference is not None:
        return f"{rate:.1%}"
    return f"{rate:.3g} GB/s" if rate < 100 else f"{rate:.1f} GB/s"


def as_json(comparison: Comparison, base: list[str], new: list[str]) -> dict[str, Any]:
    """`base`, `new`: the files that were read."""
    return {
        "schema": "roofprobe/comparison/1",
        "base": base,
        "new": new,
        "exit_status": comparison.exit_status,
        "counts": {outcome: sum(c.outcome == outcome for c in comparison.cases) for outcome in OUTCOMES},
        "remarks": comparison.remarks,
        "cases": [_case(case) for case in comparison.cases],
    }


def _case(case: Compared) -> dict[str, Any]:
    found = case.change
    return {
        "name": case.key.name,
        "case": msgspec.to_builtins(case.key),
        "verdict": case.outcome,
        "unit": "GB/s" if case.key.reference is None else f"share of {case.key.reference}",
        "base": case.base,
        "new": case.new,
        "base_processes": case.processes[0],
        "new_processes": case.processes[1],
        "ratio": None if found is None else found.ratio,
        "interval": None if found is None else found.interval,
        "limit": None if found is None else found.limit_fraction,
        "spread": None if case.spread is None else as_fraction(case.spread),
        "calibrated": case.spread is not None,
        "remarks": case.remarks,
    }
