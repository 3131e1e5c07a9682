"""The ceiling that readers of one memory share, from what they get alone and together.

Readers that would move d_1, d_2 … alone, in GB/s, ask for D = sum of d together, and get

    total = min(D, C)

C is the shared ceiling. It is the value with the least sum of |log(total / min(D, C))| over the points, so that half
of them may be disturbed without moving it far, and 5 % off counts alike at any rate. A point tells of C only where D
exceeds it by 5 %; with fewer than two such points there is no C, only the most that was reached.

What is asked for is measured in the same run: a GPU alone and each number of CPU threads alone, or, without a GPU,
one CPU thread alone times the number of threads. That total is what a CPU's cores get if they share nothing.

interval       2.5 % and 97.5 % of C over 400 resamplings of rounds and of their windows of time (percentile bootstrap)
held-out error each case of readers together is left out in turn, all of its rounds, and predicted from the rest
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, isinf, log
from random import Random

from roofprobe.load_record import ContentionPoint, SharedCeiling
from roofprobe.robust import median

SATURATED_ABOVE = 1.05
FEWEST_SATURATED = 2
RESAMPLINGS = 400
SEED = 0x5EED


@dataclass(frozen=True, order=True)
class Readers:
    """Who reads at once."""

    device: bool
    cpu_threads: int


Totals = Sequence[float]
"""The windows' totals of one point, GB/s."""
Cases = Mapping[Readers, Sequence[Totals]]
"""Every case's rounds."""


@dataclass(frozen=True)
class _Asked:
    asked: float
    got: float


def fit_ceiling(points: Sequence[ContentionPoint]) -> SharedCeiling | None:
    """The shared ceiling of a curve; None where nothing was measured alone or nothing together."""
    cases: dict[Readers, list[Totals]] = {}
    for point in points:
        cases.setdefault(Readers(point.device, point.cpu_threads), []).append(point.totals_gb_per_s)
    found = _asked(cases)
    together = [readers for readers in found if _is_together(readers, cases)]
    if not together:
        return None
    every = [pair for pairs in found.values() for pair in pairs]
    ceiling = _fit(every)
    errors = [abs(p / pair.got - 1) for readers in together for pair, p in _predicted(readers, found)]
    return SharedCeiling(
        gb_per_s=None if isinf(ceiling) else ceiling,
        interval=None if isinf(ceiling) else _interval(cases),
        at_least_gb_per_s=max(pair.got for pair in every),
        saturated_points=0 if isinf(ceiling) else _saturated(every, ceiling),
        saturated_cases=0 if isinf(ceiling) else sum(_saturated(pairs, ceiling) > 0 for pairs in found.values()),
        held_out_typical=median(errors) if len(together) > 1 else None,
        held_out_worst=max(errors) if len(together) > 1 else None,
    )


def _alone(readers: Readers, cases: Cases) -> tuple[Readers, ...] | None:
    """The cases whose rates `readers` ask for together; None where one of them was not measured alone."""
    if any(case.device for case in cases):
        parts = [Readers(True, 0)] * readers.device + [Readers(False, readers.cpu_threads)] * (readers.cpu_threads > 0)
    else:
        parts = [Readers(False, 1)] * readers.cpu_threads
    return tuple(parts) if all(part in cases for part in parts) else None


def _is_together(readers: Readers, cases: Cases) -> bool:
    return len(_alone(readers, cases) or ()) > 1


def _asked(cases: Cases) -> dict[Readers, list[_Asked]]:
    """What each case asked for and got, round by round; cases without their alone rates are left out."""
    rates = {readers: [median(totals) for totals in rounds] for readers, rounds in cases.items()}
    found = {}
    for readers, got in rates.items():
        parts = _alone(readers, cases)
        if parts is not None:
            asked = sum(median(rates[part]) for part in parts)
            found[readers] = [_Asked(asked, rate) for rate in got]
    return found


def _fit(pairs: Sequence[_Asked]) -> float:
    """C, or infinity where too few points ask for more than they get. The loss is least at one of the totals."""

    def loss(ceiling: float) -> float:
        return sum(abs(log(pair.got / min(pair.asked, ceiling))) for pair in pairs)

    best = min({pair.got for pair in pairs} | {inf}, key=lambda c: (round(loss(c), 12), -c))
    return best if _saturated(pairs, best) >= FEWEST_SATURATED else inf


def _saturated(pairs: Sequence[_Asked], ceiling: float) -> int:
    return sum(pair.asked > SATURATED_ABOVE * ceiling for pair in pairs)


def _predicted(left_out: Readers, found: Mapping[Readers, Sequence[_Asked]]) -> list[tuple[_Asked, float]]:
    """The rounds of one case beside what the others say that it gets."""
    ceiling = _fit([pair for readers, pairs in found.items() if readers != left_out for pair in pairs])
    return [(pair, min(pair.asked, ceiling)) for pair in found[left_out]]


def _interval(cases: Cases) -> tuple[float, float] | None:
    """None where more than one resampling in forty has no ceiling, or a case has one round of one window."""
    random = Random(SEED)
    if all(len(rounds) == 1 and len(rounds[0]) == 1 for rounds in cases.values()):
        return None
    ceilings = []
    for _ in range(RESAMPLINGS):
        drawn = {
            readers: [random.choices(totals, k=len(totals)) for totals in random.choices(rounds, k=len(rounds))]
            for readers, rounds in cases.items()
        }
        ceilings.append(_fit([pair for pairs in _asked(drawn).values() for pair in pairs]))
    ceilings.sort()
    low, high = ceilings[RESAMPLINGS // 40], ceilings[-1 - RESAMPLINGS // 40]
    return None if isinf(high) else (low, high)
