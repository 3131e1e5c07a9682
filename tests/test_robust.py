"""The median's interval holds the median as often as it says."""

from math import comb
import random

from hypothesis import given
from hypothesis import strategies as st
import pytest

from roofprobe.robust import median, median_interval


def coverage(n: int, rank: int) -> float:
    """P(x(rank) <= median <= x(n+1-rank)) by the binomial distribution, computed apart from the code under test."""
    return sum(comb(n, i) for i in range(rank, n - rank + 1)) / 2**n


@pytest.mark.parametrize("n", [6, 7, 20, 101, 3999])
def test_takes_the_narrowest_ranks_that_cover_95_percent(n: int) -> None:
    low, high = median_interval(list(range(1, n + 1))) or (0, 0)
    assert low + high == n + 1
    assert coverage(n, int(low)) >= 0.95
    assert coverage(n, int(low) + 1) < 0.95


def test_needs_six_samples() -> None:
    assert median_interval([1.0] * 5) is None
    assert median_interval([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]) == (1.0, 6.0)


def test_normal_approximation_joins_the_exact_ranks() -> None:
    # 4000 samples use the exact ranks, 4001 the approximation: the interval must not jump between them.
    exact = median_interval(list(range(4000))) or (0, 0)
    approximate = median_interval(list(range(4001))) or (0, 0)
    assert abs(exact[0] - approximate[0]) <= 2


def test_holds_the_median_of_a_skewed_distribution() -> None:
    generator = random.Random(5)
    truth = 0.6931471805599453  # median of the exponential distribution with mean 1
    held = 0
    for _ in range(400):
        low, high = median_interval([generator.expovariate(1) for _ in range(25)]) or (0, 0)
        held += low <= truth <= high
    # 25 samples give 95.7 %; 400 trials of that have a standard deviation of 1 %.
    assert held >= 0.92 * 400


@given(st.lists(st.floats(1e-9, 1e9), min_size=6, max_size=60))
def test_surrounds_the_sample_median(values: list[float]) -> None:
    low, high = median_interval(values) or (float("nan"), 0)
    assert low <= median(values) <= high
