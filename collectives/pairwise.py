"""Each two ranks alone, to find the one rank or link that slows all of them.

In a ring everyone drops to the slowest link, without any error, and no rank's own time tells which it is. Here one
pair at a time sends a message back and forth while the others wait:

    us          half the round trip of 8 bytes: the mean of many, of several rounds the median
    gb_per_s    1 MiB over half its round trip: the median of a few, of several rounds the best

A busy machine slows a pair for a while, a slow link slows it always; but a node with too little CPU time runs at full
speed while it runs, so that the best round or the median message would hide it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean, median

from roofprobe.collectives.faults import who
from roofprobe.collectives.latency_clock import exchange
from roofprobe.collectives.process_group import Group
from roofprobe.collectives.results import RankInfo

ROUNDS = 3
SMALL_BYTES, SMALL_EXCHANGES = 8, 100
LARGE_BYTES, LARGE_EXCHANGES = 1 << 20, 3
SLOW_RATE = 0.7
"""Of the fastest pair's: links of one kind were within 0.1 of each other."""
SLOW_ANSWER = 3.0
"""Times the quickest pair's: the same two nodes on busy cores were up to twice as long."""


@dataclass(frozen=True)
class Pair:
    """Two ranks."""

    first: int
    second: int
    us: float
    gb_per_s: float


def measure_pairs(group: Group) -> tuple[Pair, ...]:
    """All pairs, the same on every rank; all have to call it. Raises RuntimeError, torch's, where one has gone."""
    pairs = list(combinations(range(group.world_size), 2))
    small: dict[tuple[int, int], list[float]] = {pair: [] for pair in pairs}
    large: dict[tuple[int, int], list[float]] = {pair: [] for pair in pairs}
    for _ in range(ROUNDS):
        for a, b in pairs:
            group.watch.enter(f"measuring rank {a} with rank {b} alone")
            small[a, b].append(fmean(_one_way_us(group, a, b, SMALL_EXCHANGES, SMALL_BYTES)))
            large[a, b].append(median(_one_way_us(group, a, b, LARGE_EXCHANGES, LARGE_BYTES)))
            group.barrier()
    if not pairs:
        return ()
    everyone = group.gather([*(median(small[pair]) for pair in pairs), *(min(large[pair]) for pair in pairs)])
    return tuple(
        Pair(a, b, us=everyone[a][i], gb_per_s=LARGE_BYTES / everyone[a][len(pairs) + i] / 1e3)
        for i, (a, b) in enumerate(pairs)
    )


def _one_way_us(group: Group, a: int, b: int, times: int, n_bytes: int) -> list[float]:
    """On rank `a`; 0 on the others. The first exchange, which may make the connection, does not count."""
    return [(t3 - t0) / 2e3 for t0, _, t3 in exchange(group, a, b, times + 1, n_bytes)[1:]] or [0.0]


def pair_lines(pairs: Sequence[Pair], ranks: Sequence[RankInfo]) -> list[str]:
    """A line a pair, and one for each rank or link that stands out."""
    lines = [
        f"pair: {who(ranks[p.first])} and {who(ranks[p.second])}: {p.us:.1f} us, {p.gb_per_s:.3f} GB/s" for p in pairs
    ]
    return lines + [f"pairs: {finding}" for finding in find_slow(pairs, ranks)]


def find_slow(pairs: Sequence[Pair], ranks: Sequence[RankInfo]) -> list[str]:
    """Names each rank all of whose pairs are slow, then the slow pairs that this leaves. Two ranks tell nothing."""
    if len(pairs) < 2:
        return []
    fastest = max(pair.gb_per_s for pair in pairs)
    quickest = min(pair.us for pair in pairs)
    slow = [pair for pair in pairs if pair.gb_per_s < SLOW_RATE * fastest]
    late = [pair for pair in pairs if pair.us > SLOW_ANSWER * quickest]
    return [
        *_name(slow, ranks, "slow", lambda p: f"{p.gb_per_s:.3f} GB/s, the fastest pair {fastest:.3f}"),
        *_name(late, ranks, "late to answer", lambda p: f"{p.us:.1f} us, the quickest pair {quickest:.1f}"),
    ]


def _name(slow: Sequence[Pair], ranks: Sequence[RankInfo], word: str, figures: Callable[[Pair], str]) -> Iterator[str]:
    by_rank = {rank.rank: [pair for pair in slow if rank.rank in (pair.first, pair.second)] for rank in ranks}
    culprits = [rank for rank, found in by_rank.items() if len(found) == len(ranks) - 1]
    if len(culprits) == len(ranks):
        culprits = []
    for rank in culprits:
        yield f"{who(ranks[rank])} is {word} with every other rank: {figures(by_rank[rank][0])}; its link or its host"
    for pair in slow:
        if pair.first not in culprits and pair.second not in culprits:
            between = f"{who(ranks[pair.first])} and {who(ranks[pair.second])}"
            yield f"{between} are {word} with each other: {figures(pair)}; the link between them"
