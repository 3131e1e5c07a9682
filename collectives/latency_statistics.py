"""What the ranks' start and own times say: the operation's latency, who was late, and whose fault a delay is.

Arrays are [rank, sample], in us: `late`, each rank's start after the agreed moment, on rank 0's clock, and `own`, its
time from its own start to its own end.

    latency[i] = max over ranks (late + own) - max over ranks late

from the last rank's start to the last rank's end: nobody's late start is in it. It needs a common clock, but not
blindly: the last rank to start took its own time at least, and the last to end took no less than the latency, so
min own <= latency <= max own whatever the clocks say, and the result is held inside. Where all start together both
bounds are near, and the clocks hardly matter.

What it can't see: a rank that stops in the middle of an operation, after its start, looks as a slow link does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from roofprobe.collectives.results import RankInfo
from roofprobe.latency_record import RankLatency, nearest_rank

Array = NDArray[np.float64]

PARTS = 5
CONSISTENT_PARTS = 4
"""A slow rank is slow all along: in this many of the five parts of the samples. One long pause is in one part."""
SLOW_SHARE = 0.25
"""A rank is slow where the others wait for it alone, on average, this share of the median latency at least, and …"""
SLOW_FACTOR = 3.0
"""… this many times as long as for any other rank, and as the clocks may be apart."""
SLOW_LINK_FACTOR = 2.0
SLOW_LINK_LEAST_US = 50.0
"""A link is slow at this factor of the fastest pair's round trip, and this much above it: less is jitter."""


@dataclass(frozen=True)
class Arrivals:
    """All ranks' samples of one size in one mode."""

    late: Array
    own: Array
    clock_us: float = 0.0

    @property
    def latency(self) -> Array:
        """[sample]: from the last start to the last end."""
        ends = (self.late + self.own).max(axis=0)
        latency: Array = np.clip(ends - self.late.max(axis=0), self.own.min(axis=0), self.own.max(axis=0))
        return latency

    @property
    def after_first(self) -> Array:
        """[rank, sample]: how long after the earliest rank each starts."""
        after: Array = self.late - self.late.min(axis=0)
        return after

    @property
    def held_up(self) -> Array:
        """[rank, sample]: for how long all the others waited for this rank alone."""
        held = np.zeros_like(self.late)
        if len(held) > 1:
            ordered = np.sort(self.late, axis=0)
            held[self.late.argmax(axis=0), np.arange(held.shape[1])] = ordered[-1] - ordered[-2]
        return held


def rank_latencies(arrivals: Arrivals, operations: int) -> tuple[RankLatency, ...]:
    """Each rank's figures, own time per operation."""
    own = arrivals.own / operations
    after, held = arrivals.after_first, arrivals.held_up
    return tuple(
        RankLatency(
            minimum_us=_tenths(mine.min()),
            mean_us=_tenths(mine.mean()),
            maximum_us=_tenths(mine.max()),
            late_p50_us=_tenths(nearest_rank(sorted(after[rank].tolist()), 50)),
            late_p99_us=_tenths(nearest_rank(sorted(after[rank].tolist()), 99)),
            held_up_us=_tenths(held[rank].mean()),
        )
        for rank, mine in enumerate(own)
    )


def samples_us(arrivals: Arrivals, operations: int) -> tuple[float, ...]:
    """Latency per operation, to 0.1 us."""
    return tuple(_tenths(value) for value in arrivals.latency / operations)


def slow_rank(sizes: Sequence[Arrivals]) -> int | None:
    """The rank that the others keep waiting for, judged over all the sizes of one mode; None if there is none.

    While it is late its own time in the operation is shorter than the others', who wait in theirs: that tells it from
    a slow link, on which all are slow alike.
    """
    parts = [part for arrivals in sizes for part in _parts(arrivals)]
    if not parts or len(sizes[0].late) < 2:
        return None
    clock = max(arrivals.clock_us for arrivals in sizes)
    held = np.array([part.held_up.mean(axis=1) for part in parts])
    limits = np.array([SLOW_SHARE * float(np.median(part.latency)) for part in parts])
    rank = int(held.mean(axis=0).argmax())
    others = np.delete(held, rank, axis=1).max(axis=1)
    slow = (held[:, rank] >= limits) & (held[:, rank] >= SLOW_FACTOR * np.maximum(others, clock))
    return rank if slow.mean() >= CONSISTENT_PARTS / PARTS else None


def _parts(arrivals: Arrivals) -> list[Arrivals]:
    """Consecutive fifths."""
    return [
        Arrivals(arrivals.late[:, where], arrivals.own[:, where], arrivals.clock_us)
        for where in np.array_split(np.arange(arrivals.late.shape[1]), PARTS)
        if len(where)
    ]


def slow_pairs(round_trips: Mapping[tuple[int, int], float], ranks: Sequence[RankInfo]) -> list[tuple[int, int]]:
    """The pairs of ranks whose round trip stands out from the fastest pair's.

    From the fastest's, because a bad port slows every pair of its rank, which with three ranks is most of them. None
    with a single pair, where there is nothing to compare with; two ranks of one host have no link between them.
    """
    linked = _linked(round_trips, ranks)
    fastest = min(linked.values(), default=0.0)
    limit = max(SLOW_LINK_FACTOR * fastest, fastest + SLOW_LINK_LEAST_US)
    return [pair for pair, us in linked.items() if us >= limit]


def _linked(round_trips: Mapping[tuple[int, int], float], ranks: Sequence[RankInfo]) -> dict[tuple[int, int], float]:
    return {pair: us for pair, us in round_trips.items() if ranks[pair[0]].network != ranks[pair[1]].network}


def findings(
    sizes: Sequence[Arrivals], round_trips: Mapping[tuple[int, int], float], ranks: Sequence[RankInfo]
) -> list[str]:
    """Sentences that name a slow rank or a slow link, or say that neither stands out. `sizes`: of one mode."""
    if len(ranks) < 2:
        return ["a single rank waits for nobody"]
    after = np.concatenate([arrivals.after_first for arrivals in sizes], axis=1)
    told = []
    slow = slow_rank(sizes)
    if slow is not None:
        held = np.concatenate([arrivals.held_up for arrivals in sizes], axis=1)[slow]
        own = np.concatenate([arrivals.own for arrivals in sizes], axis=1).mean(axis=1)
        told.append(
            f"slow rank {slow} on {ranks[slow].host}: arrives {held.mean():.0f} us after all the others (mean), the"
            f" last in {100 * (held > 0).mean():.0f} % of the samples; in the operation it spends {own[slow]:.0f} us,"
            f" the others {np.delete(own, slow).mean():.0f} us waiting for it: the rank is slow, not its link"
        )
    told += [
        f"slow link between rank {a} on {ranks[a].host} and rank {b} on {ranks[b].host}: a round trip of 64 KiB takes"
        f" {round_trips[a, b]:.0f} us, between the fastest pair {min(_linked(round_trips, ranks).values()):.0f} us"
        for a, b in slow_pairs(round_trips, ranks)
        if slow not in (a, b)
    ]
    if not told:
        spread = sorted(after.max(axis=0).tolist())
        told.append(
            f"no rank is slow: the last starts {nearest_rank(spread, 50):.1f} us after the first (median; p99"
            f" {nearest_rank(spread, 99):.1f} us), so what an operation takes is the link's and its software's"
        )
    return told


def _tenths(value: float) -> float:
    return round(float(value), 1)
