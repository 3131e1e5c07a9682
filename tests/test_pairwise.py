"""Which rank or link stands out among the pairs."""

from __future__ import annotations

from itertools import combinations

import pytest
from test_verdict import info

from roofprobe.collectives.pairwise import Pair, find_slow

US, RATE = 85.0, 0.118


def pairs(world_size: int, slow: dict[tuple[int, int], float], late: dict[tuple[int, int], float]) -> list[Pair]:
    return [
        Pair(a, b, US * late.get((a, b), 1.0), RATE * slow.get((a, b), 1.0))
        for a, b in combinations(range(world_size), 2)
    ]


def of_rank(rank: int, world_size: int, factor: float) -> dict[tuple[int, int], float]:
    return {pair: factor for pair in combinations(range(world_size), 2) if rank in pair}


@pytest.mark.parametrize("world_size", [3, 4])
def test_a_rank_that_is_slow_with_every_other_is_named_once(world_size: int) -> None:
    (found,) = find_slow(pairs(world_size, of_rank(2, world_size, 0.1), {}), [info(r) for r in range(world_size)])
    assert found.startswith(
        "rank 2 on node3 (10.77.0.3) is slow with every other rank: 0.012 GB/s, the fastest pair 0.118"
    )


def test_one_slow_pair_is_the_link_between_two() -> None:
    (found,) = find_slow(pairs(4, {(1, 3): 0.1}, {}), [info(r) for r in range(4)])
    assert found.startswith("rank 1 on node2 (10.77.0.2) and rank 3 on node4 (10.77.0.4) are slow with each other")


def test_a_rank_that_answers_late_at_the_full_rate_is_named() -> None:
    (found,) = find_slow(pairs(4, {}, of_rank(0, 4, 20.0)), [info(r) for r in range(4)])
    assert found.startswith("rank 0 on node1 (10.77.0.1) is late to answer with every other rank: 1700.0 us")


def test_pairs_that_differ_a_little_or_two_ranks_alone_tell_nothing() -> None:
    assert find_slow(pairs(4, {(0, 1): 0.85}, {(2, 3): 2.0}), [info(r) for r in range(4)]) == []
    assert find_slow(pairs(2, {}, {}), [info(r) for r in range(2)]) == []
