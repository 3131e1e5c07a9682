"""How our kernels compare with the baselines of the same run, derived from their rows.

The figure is how many times as fast ours works through a weight: both rows are paired with the same ceiling, so

    ratio = (ceiling seconds / seconds * N * K) of ours / the same of the baseline,

and a machine that slowed down between the two rows cancels out. Where the formats agree, that is the ratio of the
rates; where they don't (torch has a GEMV for bf16 only), it is what the format and the kernel gain together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from roofprobe.measurement import Measurement
from roofprobe.robust import median, median_interval

SAME = ("op", "side", "k", "batch", "experts", "top_k", "reference", "residency")
CONFIDENCE = 0.975
"""Of each row's interval: both hold at once with at least 95 %."""


@dataclass(frozen=True)
class Comparison:
    """Ours against one baseline."""

    ours: Measurement
    baseline: Measurement
    ratio: float
    interval: tuple[float, float] | None
    """95 %, or None where either row has too few samples."""


def comparisons(measurements: Iterable[Measurement]) -> list[Comparison]:
    """Every kernel row of ours against every baseline for the same product, and, without one, against torch's bf16."""
    rows = [m for m in measurements if m.probe != "memory" and m.invalid is None and m.timing.accepted_ratios]
    found = []
    for ours in (m for m in rows if not m.is_baseline):
        rivals = [m for m in rows if m.is_baseline and _same_work(ours, m)]
        same_format = [m for m in rivals if m.format == ours.format]
        torch = [m for m in rivals if m.backend == "torch" and m.format == "bf16" and ours.format != "bf16"]
        found += [_compare(ours, rival) for rival in (*same_format, *torch)]
    return found


def _same_work(ours: Measurement, other: Measurement) -> bool:
    return all(getattr(ours, f) == getattr(other, f) for f in SAME)


def _compare(ours: Measurement, baseline: Measurement) -> Comparison:
    mine, its = _speeds(ours), _speeds(baseline)
    low_high = [median_interval(values, CONFIDENCE) for values in (mine, its)]
    interval = None
    if low_high[0] is not None and low_high[1] is not None:
        interval = low_high[0][0] / low_high[1][1], low_high[0][1] / low_high[1][0]
    return Comparison(ours, baseline, median(mine) / median(its), interval)


def _speeds(m: Measurement) -> Sequence[float]:
    """Weights a second over the ceiling's bytes a second, for every pair that counts."""
    assert m.k is not None and m.reference_bytes is not None
    return [ratio * m.n * m.k / m.reference_bytes for ratio in m.timing.accepted_ratios]


def line(c: Comparison) -> str:
    """``host gemv bf16 28672x8192 b1: 1.12 [1.10, 1.15] x torch``."""
    batch = "" if c.ours.batch is None else f" b{c.ours.batch}"
    shown = "" if c.interval is None else f" [{c.interval[0]:.3f}, {c.interval[1]:.3f}]"
    other = c.baseline.backend if c.baseline.format == c.ours.format else f"{c.baseline.backend} {c.baseline.format}"
    return f"{c.ours.side} {c.ours.op} {c.ours.format} {c.ours.n}x{c.ours.k}{batch}: {c.ratio:.3f}{shown} x {other}"


def as_json(ours: Measurement, found: Iterable[Comparison]) -> list[dict[str, Any]]:
    """`ours`' comparisons for a JSON document."""
    return [
        {"backend": c.baseline.backend, "format": c.baseline.format, "times_as_fast": c.ratio, "interval": c.interval}
        for c in found
        if c.ours is ours
    ]
