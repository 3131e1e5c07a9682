"""A machine's own A/A spread, from processes that all measured the same.

Processes stand in the order in which they ran. Pairs are made twice: of processes one after the other, and of processes
half the calibration apart, since two runs that people compare were not made in one minute. The spread is the larger of
the two. Each pair of neighbours is then judged as `compare` judges it, with the spread of the other pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import comb

from roofprobe.comparison.history import KindSpread
from roofprobe.comparison.regression_rule import Process, Verdict, aa_spread, change
from roofprobe.robust import median

FEWEST_PAIRS = 10
"""The median of fewer absolute changes is off by more than a third in one calibration of six."""


def neighbours(processes: Sequence[Process]) -> list[tuple[Process, Process]]:
    """First with second, third with fourth, …"""
    return list(zip(processes[::2], processes[1::2]))


def apart(processes: Sequence[Process]) -> list[tuple[Process, Process]]:
    """Each of the first half with the one as far into the second half."""
    half = len(processes) // 2
    return list(zip(processes[:half], processes[half : 2 * half]))


def changes(pairs: Sequence[tuple[Process, Process]]) -> list[float]:
    """The change from the first to the second of each pair."""
    return [median(b) - median(a) for a, b in pairs]


def spread_of(processes: Sequence[Process]) -> tuple[float, float]:
    """Of neighbours, and of those apart."""
    return aa_spread(changes(neighbours(processes))), aa_spread(changes(apart(processes)))


def calibrate(kind: str, processes: Sequence[Process]) -> KindSpread | None:
    """What `processes` tell of their kind; None where they are fewer than FEWEST_PAIRS pairs."""
    pairs = neighbours(processes)
    if len(pairs) < FEWEST_PAIRS:
        return None
    next_to, away = spread_of(processes)
    alarms = [verdict for verdict in aa_verdicts(processes) if verdict in ("regression", "improvement")]
    return KindSpread(
        kind=kind,
        spread=max(next_to, away),
        neighbours_spread=next_to,
        apart_spread=away,
        pairs=len(pairs),
        false_alarms=len(alarms),
    )


def aa_verdicts(processes: Sequence[Process]) -> list[Verdict]:
    """Of each pair of neighbours, judged with the spread of all processes but those two."""
    found = []
    for i, (a, b) in enumerate(neighbours(processes)):
        others = [*processes[: 2 * i], *processes[2 * i + 2 :]]
        found.append(change([a], [b], max(spread_of(others))).verdict)
    return found


def binomial_interval(hits: int, trials: int) -> tuple[float, float]:
    """The exact 95 % interval of a probability, of which `hits` of `trials` were seen.

    Source: C. J. Clopper and E. S. Pearson, Biometrika 26 (1934), 404-413.
    """
    low = 0.0 if hits == 0 else _probability_with_tail(lambda p: 1 - _at_most(hits - 1, trials, p))
    high = 1.0 if hits == trials else _probability_with_tail(lambda p: 1 - _at_most(hits, trials, p), 0.975)
    return low, high


def _at_most(hits: int, trials: int, p: float) -> float:
    return sum(comb(trials, k) * p**k * (1 - p) ** (trials - k) for k in range(hits + 1))


def _probability_with_tail(tail: Callable[[float], float], at: float = 0.025) -> float:
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if tail(middle) < at else (low, middle)
    return (low + high) / 2
