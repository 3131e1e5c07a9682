"""Periodic stalls: a unit that stands still for some seconds every half hour passes every short test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from statistics import median

from roofprobe.doctor.stall_spans import Stall, find_stalls, span_s
from roofprobe.doctor.unit_load import Load
from roofprobe.finding import Finding
from roofprobe.telemetry import Sampling

ID = "unit.periodic-stall"
LONG_SECONDS = 29 * 60.0
"""A recording of half an hour, whose last record comes a little before its end, sees one stall of that period."""
LONGEST_PERIOD_S = 36 * 60.0
"""Units were seen to stall about every half hour; a soak of 35 minutes may well see one stall alone."""
PERIOD_TOLERANCE = 0.2
SHORTEST_PERIOD_S = 20.0
"""What falls more often than that is a rate that alternates."""
LONGEST_MISSED = 3
"""Stalls between two that were seen which sampling may have missed, plus one."""

REMEDY = (
    "Look for what happens at these times with `journalctl -k` and `systemctl list-timers`, update firmware and driver "
    "(`sudo fwupdmgr update`), and repeat with `roofprobe accept --soak 35m`; a unit that still stalls needs service."
)


def periodic_stalls(sampling: Sampling, load: Load) -> Iterator[Finding]:
    """Stalls that come again, or one clear one in a recording that is too short to see its next."""
    stalls = find_stalls(sampling, load)
    sure = [stall for stall in stalls if stall.is_sure]
    recorded = span_s(sampling)
    is_long = recorded >= LONG_SECONDS
    if (period := _period([stall.start_s for stall in stalls])) is not None:
        yield _finding(sampling, "fault", stalls, f", every {_time(period)}")
    elif len(sure) == 2 or (is_long and len(stalls) == 2):
        two = sure if len(sure) == 2 else stalls
        yield _finding(sampling, "fault", two, f", {_time(two[1].start_s - two[0].start_s)} apart")
    elif is_long and len(sure) == 1 and _is_first_of_more(sampling, sure[0]):
        yield _finding(sampling, "fault", sure, f" in a recording of {_time(recorded)}; its next would come after it")
    elif sure or (is_long and stalls):
        regular = "not at regular distances" if len(stalls) > 1 else f"once in a recording of {_time(recorded)}"
        yield _finding(sampling, "warning", stalls, f", {regular}; a longer recording can tell")


def _is_first_of_more(sampling: Sampling, stall: Stall) -> bool:
    """Whether stalls that come so far apart would show just this one: none before it, and the end before the next."""
    moments = [*(sample.t_s for sample in sampling.samples), *(result.t_s for result in sampling.sentinels)]
    return max(stall.start_s - min(moments), max(moments) - stall.start_s) <= LONGEST_PERIOD_S


def _period(starts: Sequence[float]) -> float | None:
    """The period of three or more evenly spaced moments, of which a few between may have been missed."""
    if len(starts) < 3:
        return None
    steps = [after - before for before, after in pairwise(starts)]
    shortest = min(steps)
    if shortest < SHORTEST_PERIOD_S:
        return None
    turns = [round(step / shortest) for step in steps]
    period = median(step / turn for step, turn in zip(steps, turns, strict=True))
    even = all(
        turn <= LONGEST_MISSED and abs(step / turn - period) <= PERIOD_TOLERANCE * period
        for step, turn in zip(steps, turns, strict=True)
    )
    return period if even else None


def _finding(sampling: Sampling, severity: str, stalls: Sequence[Stall], when: str) -> Finding:
    moments = ", ".join(f"{stall.start_s:.0f} s" for stall in stalls[:5])
    more = "" if len(stalls) <= 5 else f" and {len(stalls) - 5} more"
    count = "a stall" if len(stalls) == 1 else f"{len(stalls)} stalls"
    return Finding(
        id=ID,
        severity="fault" if severity == "fault" else "warning",
        host=sampling.host,
        evidence=f"{count} at {moments}{more}{when}: {stalls[0].told} at {stalls[0].start_s:.0f} s",
        remedy=REMEDY,
    )


def _time(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"
