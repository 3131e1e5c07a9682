"""The rule of a verdict, whatever the figures: decided by the interval alone, mirrored for upper bounds, never a pass
without data; and the interval over processes that it goes by."""

from __future__ import annotations

from math import inf, nan

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from roofprobe import hierarchical
from roofprobe.acceptance.verdict import Check, Verdict, decide, exit_status, overall

ends = st.floats(min_value=1e-6, max_value=1e6)
intervals = st.tuples(ends, ends).map(lambda pair: (min(pair), max(pair)))


@given(intervals, ends)
def test_a_lower_bound_is_decided_by_the_interval(interval: tuple[float, float], limit: float) -> None:
    low, high = interval
    expected = "PASS" if low >= limit else "FAIL" if high < limit else "INCONCLUSIVE"
    assert decide(interval, at_least=limit) == expected


@given(intervals, ends)
def test_an_upper_bound_is_its_mirror(interval: tuple[float, float], limit: float) -> None:
    low, high = interval
    mirrored = decide((-high, -low), at_least=-limit)
    assert decide(interval, at_most=limit) == mirrored


@given(intervals, ends, ends)
def test_both_bounds_pass_only_together_and_one_missed_fails(
    interval: tuple[float, float], low: float, high: float
) -> None:
    apart = {decide(interval, at_least=low), decide(interval, at_most=high)}
    together = decide(interval, at_least=low, at_most=high)
    assert together == ("FAIL" if "FAIL" in apart else "PASS" if apart == {"PASS"} else "INCONCLUSIVE")


@pytest.mark.parametrize("interval", [None, (nan, nan), (nan, 5.0), (5.0, nan), (6.0, 5.0)])
@pytest.mark.parametrize("bounds", [{"at_least": 1.0}, {"at_most": 10.0}, {}])
def test_no_interval_decides_nothing(interval: tuple[float, float] | None, bounds: dict[str, float]) -> None:
    assert decide(interval, **bounds) == "INCONCLUSIVE"


def test_no_limit_decides_nothing() -> None:
    assert decide((1.0, 2.0)) == "INCONCLUSIVE"
    assert decide((0.0, inf), at_least=1.0) == "INCONCLUSIVE"


def check(verdict: Verdict, required: bool = True) -> Check:
    return Check(check="x", title="x", verdict=verdict, required=required)


verdicts = st.lists(
    st.builds(check, st.sampled_from(["PASS", "FAIL", "INCONCLUSIVE", "SKIP"]), st.booleans()), max_size=6
)


@given(verdicts)
def test_the_exit_status_follows_from_the_verdicts(checks: list[Check]) -> None:
    failed = any(c.verdict == "FAIL" for c in checks)
    missing = any(c.required and c.verdict in ("INCONCLUSIVE", "SKIP") for c in checks)
    passed = any(c.verdict == "PASS" for c in checks)
    assert exit_status(checks) == (1 if failed else 3 if missing or not passed else 0)
    assert overall(checks) == {0: "PASS", 1: "FAIL", 3: "INCONCLUSIVE"}[exit_status(checks)]


def test_one_process_has_the_order_statistics_of_its_samples() -> None:
    assert hierarchical.interval([[1, 2, 3, 4, 5, 6]]) == (1, 6)
    assert hierarchical.interval([[1, 2, 3, 4, 5]]) is None
    assert hierarchical.interval([]) is None
    assert hierarchical.interval([[1.0] * 9, [1.0] * 5]) is None


def test_processes_that_differ_widen_the_interval_and_their_samples_alone_do_not() -> None:
    alike = [[100 + 0.1 * i for i in range(9)] for _ in range(3)]
    apart = [[base + 0.1 * i for i in range(9)] for base in (90, 100, 110)]
    (low, high), (wide_low, wide_high) = hierarchical.interval(alike), hierarchical.interval(apart)  # type: ignore[misc]
    assert high - low < 1.0
    assert wide_low < 92 and wide_high > 109
    assert hierarchical.interval(apart) == hierarchical.interval(apart), "the same samples, the same interval"


def test_a_ratio_of_the_same_samples_holds_one() -> None:
    groups = [[100 + 0.1 * i for i in range(9)] for _ in range(3)]
    low, high = hierarchical.ratio_interval(groups, groups)  # type: ignore[misc]
    assert low <= 1 <= high


def test_the_interval_over_processes_covers_the_truth() -> None:
    """Of 200 draws of 5 processes about 95 % should hold the median; the bootstrap of so few is known to fall short."""
    generator = np.random.default_rng(4)
    held = 0
    for _ in range(200):
        centres = generator.normal(100, 2, 5)
        groups = [list(generator.normal(centre, 0.5, 9)) for centre in centres]
        low, high = hierarchical.interval(groups)  # type: ignore[misc]
        held += low <= 100 <= high
    assert held >= 160
