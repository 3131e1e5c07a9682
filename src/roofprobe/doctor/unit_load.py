"""When a sampling's unit was under load: every rule about a unit judges that part and nothing else."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

from roofprobe.telemetry import Sample, Sampling, SentinelResult

IDLE_PCT = 10.0
"""A desktop's own drawing stays under this; above it something was running."""
LOAD_PCT = 80.0
"""Under this, a test of a GB10 says nothing of the unit."""
MIN_SAMPLES = 3

Timed = TypeVar("Timed", Sample, SentinelResult)

THERMAL_REASONS = frozenset({"sw_thermal_slowdown", "hw_thermal_slowdown"})
BRAKE_REASON = "hw_power_brake_slowdown"


@dataclass(frozen=True)
class Load:
    """The part of a sampling in which the GPU worked."""

    samples: tuple[Sample, ...]
    """Those taken under load."""
    utilization_pct: float | None
    """The median while anything ran (of all samples where nothing did); None where NVML did not tell."""
    sustained: bool
    """Whether the work held the unit busy enough for a judgement."""


def load_of(sampling: Sampling) -> Load:
    """Where NVML does not tell utilisation, the time between the first and the last sentinel counts as load."""
    told = [(s, s.utilization_pct) for s in sampling.samples if s.utilization_pct is not None]
    if not told:
        if not sampling.sentinels:
            return Load((), None, sustained=False)
        first, last = sampling.sentinels[0].t_s, sampling.sentinels[-1].t_s
        return Load(tuple(within(sampling.samples, first, last)), None, sustained=True)
    running = [pct for _, pct in told if pct >= IDLE_PCT]
    if len(running) < MIN_SAMPLES:
        return Load((), median(pct for _, pct in told), sustained=False)
    typical = median(running)
    return Load(tuple(s for s, pct in told if pct >= LOAD_PCT), typical, sustained=typical >= LOAD_PCT)


def within(series: Sequence[Timed], start_s: float, end_s: float) -> Sequence[Timed]:
    """Those of a series in order of time from `start_s` to `end_s`, both included."""
    return series[bisect_left(series, start_s, key=_time) : bisect_right(series, end_s, key=_time)]


def nearest(series: Sequence[Timed], t_s: float) -> Timed:
    """The one of a series in order of time that is nearest to a moment; the series must not be empty."""
    at = bisect_left(series, t_s, key=_time)
    return min(series[max(at - 1, 0) : at + 1], key=lambda each: abs(each.t_s - t_s))


def is_hot(sample: Sample) -> bool:
    """Whether NVML says that heat holds the clock back; hw_slowdown alone does not say which of two it was."""
    reasons = sample.reasons or ()
    return any(reason in THERMAL_REASONS for reason in reasons) or (
        "hw_slowdown" in reasons and BRAKE_REASON not in reasons
    )


def is_braked(sample: Sample) -> bool:
    """Whether the power supply holds the clock back by its own signal."""
    return BRAKE_REASON in (sample.reasons or ())


def _time(each: Sample | SentinelResult) -> float:
    return each.t_s
