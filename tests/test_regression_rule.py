"""The rule on made samples: how often it calls the same different, a slowdown found, and what its figures are."""

from __future__ import annotations

from collections import Counter
from math import exp, log
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from roofprobe.comparison.regression_rule import (
    ASSUMED_SPREAD,
    DEVIATIONS,
    LEAST_LIMIT,
    Change,
    Process,
    _draw_median,
    _median_variance,
    aa_spread,
    as_fraction,
    change,
    limit,
    wander,
)
from roofprobe.robust import median

WITHIN = 0.02
"""Standard deviation of one process's samples."""
BETWEEN = 0.01
"""Of the processes: two of the same thing differ by 0.014."""
SPREAD = BETWEEN * 2**0.5


def side(draws: Random, processes: int, slowdown: float = 0.0, samples: int = 15) -> list[Process]:
    """Processes of something that takes 1 + slowdown times as long."""
    found = []
    for _ in range(processes):
        centre = draws.gauss(-log(1 + slowdown), BETWEEN)
        found.append([draws.gauss(centre, WITHIN) for _ in range(samples)])
    return found


def verdicts(processes: int, slowdown: float, spread: float | None, trials: int = 120) -> Counter[str]:
    draws = Random(processes)
    return Counter(
        change(side(draws, processes), side(draws, processes, slowdown), spread).verdict for _ in range(trials)
    )


# One process a side is what two run folders are; five are where the bootstrap is trusted alone.
@pytest.mark.parametrize("processes", [1, 2, 5])
@pytest.mark.parametrize("spread", [SPREAD, None], ids=["calibrated", "uncalibrated"])
def test_the_same_is_called_a_change_in_less_than_1_of_100(processes: int, spread: float | None) -> None:
    found = verdicts(processes, 0.0, spread)
    assert found["regression"] + found["improvement"] <= 2, found
    assert found["unchanged"] > found["inconclusive"], found


@pytest.mark.parametrize(("processes", "at_least"), [(1, 90), (3, 114), (5, 118)])
def test_twice_the_limit_is_found(processes: int, at_least: int) -> None:
    found = verdicts(processes, 2 * as_fraction(limit(SPREAD)), SPREAD)
    assert found["regression"] >= at_least, found
    assert found["unchanged"] + found["improvement"] == 0, found


@pytest.mark.parametrize("processes", [1, 3, 5])
def test_half_the_limit_is_not_found(processes: int) -> None:
    found = verdicts(processes, as_fraction(limit(SPREAD)) / 2, SPREAD)
    assert found["regression"] + found["improvement"] <= 2, found


def test_a_noisy_machines_limit_is_three_times_its_spread() -> None:
    """What is twice the least limit is within the limit of a machine whose repeats differ by 5 %."""
    assert limit(0.05) == pytest.approx(0.15)
    assert limit(None) == limit(0.001) == LEAST_LIMIT
    base, new = [[0.0] * 9], [[-log(1.10)] * 9]
    assert change(base, new, 0.001).verdict == "regression"
    assert change(base, new, None).verdict == "regression"
    assert change(base, new, 0.05).verdict == "inconclusive"


def test_one_processs_agreeing_samples_do_not_narrow_the_interval_below_the_machines_repeats() -> None:
    found = change([[0.0] * 1000], [[0.0] * 1000], 0.01)
    assert (found.low, found.high) == (pytest.approx(-0.0196), pytest.approx(0.0196))
    assumed = change([[0.0] * 1000], [[0.0] * 1000], None)
    assert assumed.high == pytest.approx(1.96 * ASSUMED_SPREAD)


def test_a_rate_without_a_reference_is_as_unsure_as_its_samples_until_it_is_calibrated() -> None:
    noisy = [[-0.2, -0.1, -0.05, 0.0, 0.05, 0.1, 0.2]]
    assert wander([[0.0] * 9, *noisy]) == pytest.approx(1.4826 * 0.1)
    half = DEVIATIONS * 1.4826 * 0.1
    assert change(noisy, [[0.0] * 9], None, has_reference=False).high == pytest.approx(half)
    assert change(noisy, [[0.0] * 9], None).high < half
    assert change(noisy, [[0.0] * 9], 0.01, has_reference=False).high < half
    assert change([[0.0] * 9], [[0.0] * 9], None, has_reference=False).high == pytest.approx(1.96 * ASSUMED_SPREAD)


def test_two_runs_of_a_machine_that_wanders_raise_hardly_an_alarm() -> None:
    """Processes that differ by half as much as their samples, as loopback all-reduces of a busy machine do."""
    draws = Random(5)

    def process() -> list[float]:
        centre = draws.gauss(0.0, 0.04)
        return [draws.gauss(centre, 0.08) for _ in range(20)]

    pairs = [([process()], [process()]) for _ in range(200)]
    told = {
        has_reference: sum(
            change(a, b, None, has_reference=has_reference).verdict in ("regression", "improvement") for a, b in pairs
        )
        for has_reference in (True, False)
    }
    assert told[False] <= 2 < told[True]


def test_from_five_processes_on_the_bootstrap_alone_decides_without_a_calibration() -> None:
    assert change([[0.0] * 9] * 5, [[0.0] * 9] * 5, None).high == 0.0
    assert change([[0.0] * 9] * 5, [[0.0] * 9] * 4, None).high > 0.0


def test_processes_that_disagree_widen_the_interval() -> None:
    """The same samples, once mixed and once each process apart from the next."""
    mixed = [[0.0, 0.1] * 10] * 6
    split = [[0.0] * 20, [0.1] * 20] * 3
    new = [[0.05] * 20] * 6
    mixed_width, split_width = ((c := change(base, new, 0.001)).high - c.low for base in (mixed, split))
    assert split_width >= mixed_width
    assert split_width >= 0.09


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.30, -0.051, "regression"),
        (-0.30, -0.05, "inconclusive"),  # touching the limit is not clear of it
        (-0.05, 0.05, "unchanged"),
        (-0.051, 0.0, "inconclusive"),
        (0.0, 0.051, "inconclusive"),
        (0.051, 0.2, "improvement"),
        (-0.2, 0.2, "inconclusive"),
    ],
)
def test_the_verdict_is_the_intervals(low: float, high: float, verdict: str) -> None:
    assert Change(value=(low + high) / 2, low=low, high=high, limit=0.05).verdict == verdict


def test_figures_for_people_are_ratios_of_rates() -> None:
    found = change([[log(200.0)] * 7], [[log(100.0)] * 7], None)
    assert found.ratio == pytest.approx(0.5)
    assert found.interval[0] < 0.5 < found.interval[1]
    assert found.limit_fraction == 0.05


samples = st.lists(st.floats(-5, 5), min_size=1, max_size=12)
sides = st.lists(samples, min_size=1, max_size=4)


@settings(max_examples=30)
@given(sides, sides, st.one_of(st.none(), st.floats(0, 0.5)))
def test_exchanging_the_sides_turns_the_change_round(
    base: list[list[float]], new: list[list[float]], spread: float | None
) -> None:
    there, back = change(base, new, spread), change(new, base, spread)
    assert there.value == pytest.approx(-back.value)
    assert there.low <= there.value <= there.high or min(len(base), len(new)) >= 5
    assert {there.verdict, back.verdict} != {"regression"}, "both ways slower"


@settings(max_examples=30)
@given(sides, st.floats(-3, 3))
def test_a_common_factor_changes_nothing(base: list[list[float]], factor: float) -> None:
    """GB/s or bytes a microsecond: the unit is no part of the change."""
    shifted = [[value + factor for value in process] for process in base]
    plain, moved = change(base, base, 0.01), change(shifted, shifted, 0.01)
    assert (moved.low, moved.high) == (pytest.approx(plain.low, abs=1e-9), pytest.approx(plain.high, abs=1e-9))


# An odd and an even number of samples, fewer and more than a run takes.
@pytest.mark.parametrize("n", [5, 8, 41])
def test_a_drawn_median_is_distributed_as_that_of_a_drawn_sample(n: int) -> None:
    draws = Random(1)
    ordered = sorted(draws.gauss(0, 1) for _ in range(n))
    quick = sorted(_draw_median(ordered, draws) for _ in range(4000))
    plain = sorted(median(draws.choices(ordered, k=n)) for _ in range(4000))
    spacing = (ordered[-1] - ordered[0]) / n
    for share in (0.1, 0.5, 0.9):
        assert quick[int(share * 4000)] == pytest.approx(plain[int(share * 4000)], abs=2 * spacing)


@pytest.mark.parametrize("processes", [1, 2, 3, 5, 9])
def test_the_variance_of_a_median_of_processes(processes: int) -> None:
    draws = Random(2)
    medians = [median([draws.gauss(0, 1) for _ in range(processes)]) for _ in range(20_000)]
    seen = sum(m * m for m in medians) / len(medians)
    assert _median_variance(processes) == pytest.approx(seen, rel=0.25 if processes == 2 else 0.06)


def test_the_spread_is_the_standard_deviation_and_forgives_a_few_accidents() -> None:
    draws = Random(3)
    changes = [draws.gauss(0, 0.02) for _ in range(1000)]
    assert aa_spread(changes) == pytest.approx(0.02, rel=0.1)
    assert aa_spread([*changes, *[0.5] * 50]) == pytest.approx(0.02, rel=0.15)
    assert exp(aa_spread([0.0] * 5)) == 1.0
