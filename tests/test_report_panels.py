"""Scales, lines and order of the report's bars."""

import example_runs
import pytest
import records

from roofprobe.report import headline
from roofprobe.report_panels import panels


def test_a_bar_ends_where_its_rate_lies_on_the_scale() -> None:
    panel = panels(example_runs.unknown_cpu())[0]
    top = max(m.gb_per_s or 0 for m in panel.rows)
    assert float(panel.place(top).rstrip("%")) == pytest.approx(100 / 1.04, abs=0.01)
    assert float(panel.place(top / 2).rstrip("%")) == pytest.approx(50 / 1.04, abs=0.01)
    assert panel.place(0) == "0.00%"


# From a slow board's figure to an HBM's, and both sides of where the step changes.
@pytest.mark.parametrize("top", [0.7, 1.0, 3.3, 9.99, 10.01, 41.2, 119, 121, 273.1, 4800])
def test_the_axis_has_a_few_round_numbers(top: float) -> None:
    row = records.measurement(timing=records.timing([1 / top] * 7))
    ticks = panels(example_runs.run(records.environment(), [row], [], []))[0].ticks
    assert 3 <= len(ticks) <= 6
    assert ticks[0] == 0 and top / 2 < ticks[-1] <= 1.04 * top
    assert all(len(f"{t:g}".strip("0.").replace(".", "")) <= 2 for t in ticks)


def test_an_invalid_row_is_no_ceiling() -> None:
    fast = records.measurement(op="read", timing=records.timing([0.001] * 7), wrong=4)
    slow = records.measurement(op="read", timing=records.timing([0.010] * 7))
    run = example_runs.run(records.environment(), [fast, slow], [], [])
    assert headline(run) == "CPU memory read 100.0 GB/s, no nominal ceiling known"
    assert [line.gb_per_s for line in panels(run)[0].lines] == pytest.approx([100.0])
