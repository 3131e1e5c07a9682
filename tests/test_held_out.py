"""The error at sizes that a fit has not seen: small where lines hold, said where they don't."""

from __future__ import annotations

import numpy as np
import pytest

from roofprobe.alpha_beta import describe, fit
from roofprobe.held_out import FEWEST_SIZES, held_out_error

SIZES = np.array([8.0 * 2**i for i in range(24)])


def line(sizes: np.ndarray, alpha_us: float = 20, gb_per_s: float = 10) -> np.ndarray:
    return alpha_us * 1e-6 + sizes / (gb_per_s * 1e9)


def test_a_line_predicts_what_it_has_not_seen() -> None:
    found = held_out_error(SIZES, line(SIZES))
    assert found is not None
    assert found.worst < 1e-9


def test_noise_shows_as_what_it_is() -> None:
    noise = np.exp(0.05 * np.random.default_rng(3).standard_normal(len(SIZES)))
    found = held_out_error(SIZES, line(SIZES) * noise)
    assert found is not None
    assert 0.01 < found.typical < 0.08
    assert found.typical < found.worst < 0.3


def test_one_bad_size_is_the_worst_and_spoils_no_other() -> None:
    times = line(SIZES)
    times[10] *= 1.5
    found = held_out_error(SIZES, times)
    assert found is not None
    assert found.worst_bytes == SIZES[10]
    assert found.worst == pytest.approx(1 - 1 / 1.5, abs=0.01)
    assert found.typical < 0.001


def test_a_size_is_judged_by_lines_that_did_not_have_it() -> None:
    """With the size in the fit, a segment of its own hides the error; a hidden oscillation is the clearest case."""
    times = line(SIZES) * np.where(np.arange(len(SIZES)) % 4 == 2, 1.3, 1.0)
    found = held_out_error(SIZES, times)
    assert found is not None
    assert found.worst > 0.2


def test_a_jump_between_segments_can_only_be_missed_beside_it() -> None:
    times = np.where(SIZES <= 65536, line(SIZES, 10, 3), line(SIZES, 60, 20))
    found = held_out_error(SIZES, times)
    assert found is not None
    assert found.worst_bytes in (65536, 131072)
    assert found.typical < 0.01


@pytest.mark.parametrize(
    "times",
    [line(SIZES[: FEWEST_SIZES - 1]), np.full(len(SIZES), 1e-5)],
    ids=["too few sizes", "no rate to be found"],
)
def test_what_can_not_be_left_out_gives_nothing(times: np.ndarray) -> None:
    assert held_out_error(SIZES[: len(times)], times) is None


def test_the_fit_reports_it_and_says_when_it_is_large() -> None:
    good = fit([(int(size), [float(t)] * 8) for size, t in zip(SIZES, line(SIZES))], 1.0)
    assert good.held_out_error_fraction is not None
    assert good.note is None
    assert "at sizes left out of the fit: 0.0% off at the median size" in describe(good)[-1]
    jump = np.where(SIZES <= 65536, line(SIZES, 10, 3), line(SIZES, 60, 20))
    missed = fit([(int(size), [float(t)] * 8) for size, t in zip(SIZES, jump)], 1.0)
    assert missed.note is not None
    assert "poor between the sizes that were measured" in missed.note
