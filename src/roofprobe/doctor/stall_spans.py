"""Where a sampling stood still for a moment: short falls between normal results, and moments that nothing recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median, quantiles

from roofprobe.doctor.unit_load import Load, is_braked, is_hot, nearest, within
from roofprobe.telemetry import Sampling

LOW = 0.5
"""Of the median: contention with the CPU leaves a GPU about two thirds of its rate, noise far more."""
MIN_RESULTS = 8
"""Fewer can't tell a moment from a state."""
LONGEST_SHARE = 0.25
"""Of the whole sampling: what lasts longer is a state, not a stall."""
GAP_FACTOR = 5.0
"""A gap is this many times the usual distance between records, and this much shorter than the time on either side."""
GAP_SECONDS = 5.0
STEADY_SECONDS = 120.0
"""Of load before and after a fall of utilisation: a load that pauses more often does so by itself."""


@dataclass(frozen=True)
class Stall:
    """A moment of low work between normal ones."""

    start_s: float
    end_s: float
    is_sure: bool
    """Seen by more than one result, or over a clock that fell under full load; else perhaps an outlier or a pause."""
    told: str
    """What was found, for people."""


def find_stalls(sampling: Sampling, load: Load) -> tuple[Stall, ...]:
    """In order of time, without those that a throttle reason explains."""
    measured = [stall for kind in ("gemv", "copy", "matmul") for stall in _of_sentinel(sampling, kind)]
    # Work that went on as usual refutes what the samples seem to show.
    unrefuted = [
        stall
        for stall in _of_samples(sampling, load)
        if not within(sampling.sentinels, stall.start_s, stall.end_s) or any(_overlap(stall, m) for m in measured)
    ]
    stalls = _merged([*measured, *unrefuted, *_gaps(sampling, load)], 3 * _spacing(sampling))
    longest = LONGEST_SHARE * span_s(sampling)
    return tuple(s for s in stalls if s.end_s - s.start_s <= longest and not _is_throttled(sampling, s))


def span_s(sampling: Sampling) -> float:
    """From the first record to the last."""
    ends = [series[at].t_s for series in (sampling.samples, sampling.sentinels) for at in (0, -1) if series]
    return max(ends) - min(ends) if ends else 0.0


def _of_sentinel(sampling: Sampling, kind: str) -> list[Stall]:
    results = sampling.of(kind)
    if len(results) < MIN_RESULTS:
        return []
    typical = median(r.rate for r in results)
    usual = median(after.t_s - before.t_s for before, after in pairwise(results))
    stalls = []
    for first, last in _low_runs([r.rate < LOW * typical for r in results]):
        run = results[first : last + 1]
        waited = max(results[at + 1].t_s - results[at].t_s for at in (first - 1, last))
        lowest = min(r.rate for r in run)
        unit = "TFLOP/s" if kind == "matmul" else "GB/s"
        stalls.append(
            Stall(
                run[0].t_s,
                run[-1].t_s,
                is_sure=len(run) > 1 or waited > max(GAP_FACTOR * usual, GAP_SECONDS),
                told=f"{kind} {lowest:.0f} {unit} instead of {typical:.0f}",
            )
        )
    return stalls


def _of_samples(sampling: Sampling, load: Load) -> list[Stall]:
    """Falls of the clock or of utilisation; only a clock that falls in a busy GPU can't be a pause in the load."""
    clocks = [s.sm_clock_mhz for s in load.samples if s.sm_clock_mhz is not None]
    if not load.sustained or len(load.samples) < MIN_RESULTS:
        return []
    window = within(sampling.samples, load.samples[0].t_s, load.samples[-1].t_s)
    clock = median(clocks) if clocks else 0.0
    paused = [s.utilization_pct is not None and s.utilization_pct < LOW * (load.utilization_pct or 0) for s in window]
    slow = [s.sm_clock_mhz is not None and s.sm_clock_mhz < LOW * clock for s in window]
    runs = _low_runs([p or s for p, s in zip(paused, slow, strict=True)])
    edges = [window[0].t_s, *(window[at].t_s for run in runs for at in run), window[-1].t_s]
    stalls = []
    for number, (first, last) in enumerate(runs):
        start, end = window[first].t_s, window[last].t_s
        pause = all(paused[first : last + 1])
        if pause and min(start - edges[2 * number], edges[2 * number + 3] - end) < STEADY_SECONDS:
            continue
        told = "utilisation fell" if pause else f"SM clock fell under half of its {clock:.0f} MHz"
        stalls.append(Stall(start, end, is_sure=not pause and last > first, told=told))
    return stalls


def _gaps(sampling: Sampling, load: Load) -> list[Stall]:
    """Moments in which neither a sample nor a sentinel's result came, amid a stream that is regular on both sides."""
    under_load = load.samples or sampling.sentinels
    if not load.sustained or not under_load:
        return []
    start, end = under_load[0].t_s, under_load[-1].t_s
    # A sentinel comes before a sample of the same moment: a step that leads to or from one may be the time that it ran.
    samples, results = within(sampling.samples, start, end), within(sampling.sentinels, start, end)
    records = sorted([*((s.t_s, True) for s in samples), *((r.t_s, False) for r in results)])
    if len(records) < 2 * MIN_RESULTS:
        return []
    steps = [(now - then, sampled and before) for (then, before), (now, sampled) in pairwise(records)]
    shortest = {between: _longer_than_usual([s for s, b in steps if b == between]) for between in (False, True)}
    gaps = [(then, now) for (step, b), ((then, _), (now, _)) in zip(steps, pairwise(records)) if step >= shortest[b]]
    edges = [start, *(moment for gap in gaps for moment in gap), end]
    # edges are the starts and ends of the stretches between gaps, in turn.
    stretches = list(zip(edges[::2], edges[1::2], strict=True))
    return [
        Stall(before[1], after[0], is_sure=True, told=f"nothing was recorded for {after[0] - before[1]:.0f} s")
        for before, after in pairwise(stretches)
        if all(end - start >= GAP_FACTOR * (after[0] - before[1]) for start, end in (before, after))
    ]


def _longer_than_usual(steps: Sequence[float]) -> float:
    usual = quantiles(steps, n=10)[-1] if len(steps) > 1 else max(steps, default=0.0)
    return max(GAP_FACTOR * usual, GAP_SECONDS)


def _overlap(one: Stall, other: Stall) -> bool:
    return one.start_s <= other.end_s and other.start_s <= one.end_s


def _low_runs(low: Sequence[bool]) -> list[tuple[int, int]]:
    """First and last index of each run of low entries that has normal ones on both sides."""
    starts = [at for at in range(1, len(low)) if low[at] and not low[at - 1]]
    ends = [at for at in range(len(low) - 1) if low[at] and not low[at + 1]]
    # A run that begins the series has no start here, and one that ends it no end.
    return list(zip(starts, ends[1:] if low and low[0] else ends, strict=False))


def _merged(stalls: Sequence[Stall], slack_s: float) -> list[Stall]:
    """One stall that several series saw is one, and surely one."""
    merged: list[Stall] = []
    for stall in sorted(stalls, key=lambda each: each.start_s):
        if merged and stall.start_s <= merged[-1].end_s + slack_s:
            known = merged[-1]
            told = known.told if stall.told in known.told else f"{known.told}, {stall.told}"
            merged[-1] = replace(known, end_s=max(known.end_s, stall.end_s), is_sure=True, told=told)
        else:
            merged.append(stall)
    return merged


def _spacing(sampling: Sampling) -> float:
    times = [r.t_s for r in sampling.sentinels] or [s.t_s for s in sampling.samples]
    return median(after - before for before, after in pairwise(times)) if len(times) > 1 else 0.0


def _is_throttled(sampling: Sampling, stall: Stall) -> bool:
    if not sampling.samples:
        return False
    during = (*within(sampling.samples, stall.start_s, stall.end_s), nearest(sampling.samples, stall.start_s))
    return any(is_hot(sample) or is_braked(sample) for sample in during)
