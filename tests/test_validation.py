"""The published rates: the defaults follow from one part of them, and the page tells the errors on the other."""

from __future__ import annotations

from pathlib import Path

import pytest

from roofprobe.machines import EFFICIENCY, INDEPENDENCE, LAYER_SECONDS
from roofprobe.validation import Figure, calibrate, figures, published
from roofprobe.validation_page import page, page_json

PAGE = Path(__file__).resolve().parent.parent / "docs" / "validation.md"


def of(source: str, **conditions: object) -> tuple[Figure, ...]:
    return tuple(
        f
        for f in figures()
        if f.series.source == source and all(getattr(f.rate, name) == value for name, value in conditions.items())
    )


def test_the_defaults_are_what_calibrating_gives() -> None:
    found = calibrate()
    for name in ("low", "mid", "high"):
        assert getattr(found.efficiency, name) == pytest.approx(getattr(EFFICIENCY, name), abs=6e-4)
        assert getattr(found.layer_seconds, name) == pytest.approx(getattr(LAYER_SECONDS, name), abs=6e-8)
    assert found.independence == pytest.approx(INDEPENDENCE, abs=6e-4)


def test_the_calibrated_pair_is_the_best_one() -> None:
    """No other efficiency or layer time has a smaller sum of squared relative errors."""

    def misfit(efficiency: float, layer: float) -> float:
        total = 0.0
        for f in figures("mid"):
            terms = f.prediction.terms
            step = terms.memory * EFFICIENCY.mid / efficiency + f.work.model.architecture.layers * layer
            total += (step / f.step_seconds - 1) ** 2
        return total

    found = calibrate()
    best = misfit(found.efficiency.mid, found.layer_seconds.mid)
    for efficiency, layer in ((1.02, 1.0), (0.98, 1.0), (1.0, 1.1), (1.0, 0.9), (1.02, 1.1), (0.98, 0.9)):
        assert misfit(found.efficiency.mid * efficiency, found.layer_seconds.mid * layer) > best


def test_every_figure_has_a_source_and_the_parts_are_apart() -> None:
    assert {f.series.source for f in figures()} == set(published().sources)
    parts = [figures(part) for part in ("mid", "slow", "batch", "held-out")]
    assert sum(map(len, parts)) == len(figures()) and all(parts)
    assert len(figures("held-out")) >= len(figures()) / 2


def test_held_out_single_streams_of_the_calibrated_engine_are_within_6_percent() -> None:
    found = [f for f in figures("held-out") if f.series.engine == "llama.cpp" and f.rate.batch == 1]
    assert len(found) == 9  # three depths of context each of three models
    assert max(abs(f.error) for f in found) < 0.06


@pytest.mark.parametrize("rate", [59.02, 84.10])
def test_the_two_best_known_figures_are_inside_their_intervals(rate: float) -> None:
    (figure,) = (f for f in of("llama") if f.rate.tokens_per_s == rate)
    assert figure.is_inside and abs(figure.error) < 0.05


def test_vllms_second_unit_gains_less_than_predicted_and_the_page_says_so() -> None:
    one, two = (of("kubis", units=n, batch=1)[0] for n in (1, 2))
    measured = two.rate.tokens_per_s / one.rate.tokens_per_s
    predicted = two.prediction.expected_tokens_per_s.mid / one.prediction.expected_tokens_per_s.mid
    assert measured == pytest.approx(1.2, abs=0.005)
    assert predicted > 1.4
    text = page()
    assert "which holds a second unit to 1.2 times (1.42 predicted)" in text
    assert predicted == pytest.approx(1.42, abs=0.005)


def test_the_page_in_the_documentation_is_todays() -> None:
    assert PAGE.read_text() == page(), "renew it with `roofprobe predict --validate > docs/validation.md`"


def test_the_page_marks_what_lies_outside() -> None:
    outside = [f for f in figures() if not f.is_inside]
    assert outside
    rows = [line for line in page().splitlines() if line.endswith("%, out | held-out |")]
    assert len(rows) == len(outside)


def test_the_same_as_data() -> None:
    document = page_json()
    assert len(document["figures"]) == len(figures())
    for row in document["figures"]:
        assert row["error"] == pytest.approx(row["expected_tokens_per_s"]["mid"] / row["measured_tokens_per_s"] - 1)
        assert row["source"]
