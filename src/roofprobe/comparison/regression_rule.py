"""When a change between two measurements is a regression, from samples alone.

Everything here is a natural logarithm of a rate, so that twice as fast and half as fast are equally far from the same.
A side is one or more processes, each with its samples.

    change      median over NEW's processes of their medians, minus the same of BASE
    interval    95 % of the change under a hierarchical bootstrap: processes drawn anew, then samples within each; but
                never narrower than what repeats of the same case differ by on this machine (its A/A spread)
    limit       log(1.05) or 3 times the A/A spread, whichever is more
    regression  the whole interval is below -limit;  improvement: above it
    unchanged   the whole interval is within +-limit;  anything else is inconclusive

The A/A spread is the standard deviation, by the median absolute value, of the change between two processes of the same
thing. Without a calibration it is taken to be a third of log(1.05): the most for which the 5 % alone are the limit. A
rate without a reference has nothing that takes the machine's drift out of it: uncalibrated, its repeats are taken to
differ at least as much as its samples do (`wander`), so that two noisy runs of the same are left open.

Source of the hierarchical bootstrap: A. C. Davison and D. V. Hinkley, Bootstrap Methods and their Application, 3.8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, expm1, log, pi, sqrt
from random import Random
from typing import Literal

from roofprobe.robust import median

Verdict = Literal["regression", "improvement", "unchanged", "inconclusive"]
Process = Sequence[float]
"""One process's samples, each the logarithm of a rate."""

LEAST_LIMIT = log(1.05)
SPREADS = 3
ASSUMED_SPREAD = LEAST_LIMIT / SPREADS
TELLING_PROCESSES = 5
"""From so many processes a side on, the bootstrap alone knows how processes differ."""
DRAWS = 1000
DEVIATIONS = 1.96
"""Standard deviations that hold 95 % of a normal distribution on both sides."""
TO_DEVIATION = 1.4826
"""Standard deviation over median absolute value, of a normal distribution around 0."""


@dataclass(frozen=True)
class Change:
    """From BASE to NEW, as logarithms of the ratio of the rates; positive is faster."""

    value: float
    low: float
    high: float
    limit: float

    @property
    def ratio(self) -> float:
        """Rate of NEW over rate of BASE."""
        return exp(self.value)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % of `ratio`, low first."""
        return exp(self.low), exp(self.high)

    @property
    def limit_fraction(self) -> float:
        """0.05: a regression takes more than 1.05 times as long, an improvement is more than 1.05 times as fast."""
        return as_fraction(self.limit)

    @property
    def verdict(self) -> Verdict:
        if self.high < -self.limit:
            return "regression"
        if self.low > self.limit:
            return "improvement"
        if -self.limit <= self.low and self.high <= self.limit:
            return "unchanged"
        return "inconclusive"


def change(
    base: Sequence[Process], new: Sequence[Process], spread: float | None, *, has_reference: bool = True
) -> Change:
    """The change between two sides of at least one process with at least one sample each.

    spread: this machine's own for this kind of case, as `aa_spread` gives it; None where it was never measured.
    has_reference: whether samples are shares of a reference that was measured beside them. The same samples always give
    the same interval: the bootstrap's seed is fixed.
    """
    sides = [[sorted(process) for process in side] for side in (base, new)]
    value = _centre(sides[1]) - _centre(sides[0])
    draws = Random(0)
    changes = sorted(_draw(sides[1], draws) - _draw(sides[0], draws) for _ in range(DRAWS))
    tail = DRAWS // 40
    low, high = changes[tail], changes[DRAWS - 1 - tail]
    if spread is not None or min(len(base), len(new)) < TELLING_PROCESSES:
        own = max(ASSUMED_SPREAD, 0.0 if has_reference else wander((*base, *new))) if spread is None else spread
        half = least_half_width(len(base), len(new), own)
        low, high = min(low, value - half), max(high, value + half)
    return Change(value, low, high, limit(spread))


def least_half_width(base: int, new: int, spread: float) -> float:
    """Of the interval of a change between so many processes, by the A/A spread alone."""
    return DEVIATIONS * spread * sqrt((_median_variance(base) + _median_variance(new)) / 2)


def as_fraction(logarithm: float) -> float:
    """0.05 for log(1.05): a spread or a limit for people, to nine digits."""
    return round(expm1(logarithm), 9)


def limit(spread: float | None) -> float:
    """How far an interval has to be from no change."""
    return max(LEAST_LIMIT, SPREADS * (spread or 0))


def aa_spread(changes: Sequence[float]) -> float:
    """Of changes between processes of the same thing; their centre is 0 by what they are."""
    return TO_DEVIATION * median([abs(c) for c in changes])


def wander(processes: Sequence[Process]) -> float:
    """Standard deviation of the samples of the process in which they differ most, by the median absolute value.

    Seven pairs of runs of a loopback all-reduce on a busy 2-CPU machine, 154 cases of the same: 14 called a change with
    the assumed spread, none with this one.
    """
    return max(aa_spread([sample - median(process) for sample in process]) for process in processes)


def _centre(side: Sequence[Sequence[float]]) -> float:
    return median([median(process) for process in side])


def _draw(side: Sequence[Sequence[float]], draws: Random) -> float:
    if len(side) == 1:
        return _draw_median(side[0], draws)
    return median([_draw_median(process, draws) for process in draws.choices(side, k=len(side))])


def _draw_median(ordered: Sequence[float], draws: Random) -> float:
    """The median of as many samples drawn with replacement, without drawing them.

    Sample number ceil(n U) of the ordered ones is a draw for U uniform, and the median of n such U is
    Beta((n + 1) / 2, (n + 1) / 2): exact for odd n, and between the two middle ones for even n.
    """
    n = len(ordered)
    return ordered[min(n - 1, int(n * draws.betavariate((n + 1) / 2, (n + 1) / 2)))]


def _median_variance(processes: int) -> float:
    """Variance of the median of so many normal values over that of one; exact for 1 and for many.

    2 % low for 3; 22 % high for 2, whose median is their mean.
    """
    return 1 / (1 + (processes - 1) * 2 / pi)
