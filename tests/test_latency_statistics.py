"""What start and own times say: the latency without late starts, and who is to blame for a delay."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from rank_infos import rank_infos

from roofprobe.collectives.latency_statistics import Arrivals, findings, rank_latencies, samples_us, slow_pairs
from roofprobe.collectives.results import RankInfo
from roofprobe.latency_record import LatencyPoint, latency_figures, nearest_rank

RECORDINGS = Path(__file__).parent / "recordings" / "latency.json"
"""Three gloo ranks over loopback on two shared, busy cores, 8 KiB, us: `healthy`; `slow`, where rank 1 slept 20 ms
before each start; `stopped`, where rank 1 was stopped for 30 of every 40 ms."""


def recorded(name: str) -> Arrivals:
    found = json.loads(RECORDINGS.read_text())[name]
    return Arrivals(np.array(found["late"], dtype=float), np.array(found["own"], dtype=float))


def ranks(count: int, hosts: int | None = None) -> tuple[RankInfo, ...]:
    """Ranks on node0, node1, …; with fewer hosts than ranks, the last ranks share the last host."""
    return rank_infos([f"node{min(rank, (hosts or count) - 1)}" for rank in range(count)])


def even(late_us: float, own_us: float, n_ranks: int = 3, samples: int = 100) -> Arrivals:
    """Ranks that start within `late_us` of each other, none more often last than another."""
    generator = np.random.default_rng(7)
    late = generator.uniform(0, late_us, (n_ranks, samples))
    return Arrivals(late, own_us + late.max(axis=0) - late)


@pytest.mark.parametrize(
    ("late", "own", "latency"),
    [
        ([0, 0], [100, 90], 100),  # together: the slowest rank's own time
        ([0, 500], [600, 100], 100),  # one late by 500: the other's waiting is not the operation's
        ([0, 500], [600, 130], 130),  # the late rank ends last
        ([0, -400], [100, 100], 100),  # clocks 400 apart: held between the ranks' own times
        ([0, 90, 30], [200, 115, 170], 115),
    ],
)
def test_latency_is_from_the_last_start_to_the_last_end(late: list[int], own: list[int], latency: float) -> None:
    found = Arrivals(np.array([late], dtype=float).T, np.array([own], dtype=float).T)
    assert found.latency.tolist() == [latency]
    assert samples_us(found, 10) == (latency / 10,)


def test_each_ranks_own_time_and_lateness() -> None:
    arrivals = Arrivals(
        np.array([[0.0, 0, 10, 0], [5, 7, 0, 300]]), np.array([[100.0, 110, 90, 400], [95, 103, 100, 100]])
    )
    first, second = rank_latencies(arrivals, 1)
    assert (first.minimum_us, first.mean_us, first.maximum_us) == (90, 175, 400)
    assert (first.late_p50_us, first.late_p99_us, first.held_up_us) == (0, 10, 2.5)
    assert (second.late_p50_us, second.late_p99_us, second.held_up_us) == (5, 300, 78)
    assert rank_latencies(arrivals, 10)[0].mean_us == 17.5


@pytest.mark.parametrize(
    ("count", "percent", "expected"),
    [(1, 50, 1), (2, 50, 1), (3, 50, 2), (100, 90, 90), (100, 99, 99), (1000, 99.9, 999), (10_000, 99.9, 9990)],
)
def test_a_percentile_is_the_sample_of_nearest_rank(count: int, percent: float, expected: int) -> None:
    assert nearest_rank(range(1, count + 1), percent) == expected


@pytest.mark.parametrize(
    ("count", "told"), [(9, [50]), (99, [50, 90]), (9999, [50, 90, 99]), (10_000, [50, 90, 99, 99.9])]
)
def test_a_percentile_needs_enough_samples(count: int, told: list[float]) -> None:
    point = LatencyPoint(bytes=1024, mode="isolated", operations=1, samples_us=tuple(map(float, range(count))))
    assert [percent for percent in (50, 90, 99, 99.9) if point.percentile(percent) is not None] == told


def test_figures_have_percentiles_instead_of_samples() -> None:
    point = LatencyPoint(
        bytes=1024, mode="chain", operations=10, samples_us=(3.0, 1.0, 2.0), rank_wrong=(0, 2), clock_us=0.5
    )
    found = latency_figures(point)
    assert (found["p50_us"], found["p99_9_us"], found["samples"], found["wrong"]) == (2.0, None, 3, 2)
    assert "samples_us" not in found
    assert msgspec.json.decode(msgspec.json.encode(point), type=LatencyPoint) == point


@pytest.mark.parametrize("name", ["slow", "stopped"])
def test_a_recorded_slow_rank_is_named_with_its_host(name: str) -> None:
    found = findings([recorded(name)], {}, ranks(3))
    assert len(found) == 1
    assert found[0].startswith("slow rank 1 on node1: arrives ")
    assert found[0].endswith("the rank is slow, not its link")


def test_recorded_healthy_ranks_on_a_busy_machine_are_not_blamed() -> None:
    (found,) = findings([recorded("healthy")], {(0, 1): 409.0, (0, 2): 427.0, (1, 2): 288.0}, ranks(3))
    assert found.startswith("no rank is slow: ")


def test_ranks_that_start_together_on_a_slow_link_blame_the_link() -> None:
    trips = {(0, 1): 130.0, (0, 2): 131.0, (0, 3): 128.0, (1, 2): 140.0, (1, 3): 132.0, (2, 3): 4100.0}
    (found,) = findings([even(2, 5000, 4)], trips, ranks(4))
    assert found == (
        "slow link between rank 2 on node2 and rank 3 on node3: a round trip of 64 KiB takes 4100 us, between the"
        " fastest pair 128 us"
    )


def test_a_slow_rank_is_not_blamed_on_its_links_as_well() -> None:
    slow = recorded("slow")
    found = findings([slow], {(0, 1): 4000.0, (0, 2): 130.0, (1, 2): 4000.0}, ranks(3))
    assert [line[:11] for line in found] == ["slow rank 1"]


@pytest.mark.parametrize(
    ("trips", "hosts", "slow"),
    [
        ({(0, 1): 130.0}, 2, []),  # one pair: nothing to compare with
        ({(0, 1): 100.0, (0, 2): 149.0, (1, 2): 105.0}, 3, []),  # less than 50 us more is jitter
        ({(0, 1): 900.0, (0, 2): 100.0, (1, 2): 880.0}, 3, [(0, 1), (1, 2)]),  # rank 1's port: most pairs are slow
        ({(0, 1): 100.0, (0, 2): 110.0, (1, 2): 900.0}, 2, []),  # ranks 1 and 2 are on one host
    ],
    ids=["two ranks", "jitter", "a slow port", "no link"],
)
def test_slow_pairs(trips: dict[tuple[int, int], float], hosts: int, slow: list[tuple[int, int]]) -> None:
    assert slow_pairs(trips, ranks(len({r for pair in trips for r in pair}), hosts)) == slow


def test_one_long_pause_makes_no_slow_rank() -> None:
    arrivals = even(2, 100)
    arrivals.late[1, 50] += 1e6
    assert findings([arrivals], {}, ranks(3))[0].startswith("no rank is slow")


def test_lateness_below_what_the_clocks_can_tell_blames_nobody() -> None:
    arrivals = even(2, 100)
    arrivals.late[1] += 60
    assert findings([arrivals], {}, ranks(3))[0].startswith("slow rank 1 ")
    unsure = Arrivals(arrivals.late, arrivals.own, clock_us=40)
    assert findings([unsure], {}, ranks(3))[0].startswith("no rank is slow")
