"""Scales, lines and order of the report's bars."""

import example_runs
import pytest
import records
from report_page import Page

from roofprobe.report import headline, render
from roofprobe.report_panels import library, panels


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


def test_a_baseline_says_whose_kernel_it_is() -> None:
    run = example_runs.baselines()
    assert [(library(m), m.op, m.format, m.side) for m in run.measurements if m.is_baseline] == [
        ("CuPy, CUDA C++", "read", "float32", "device"),
        ("CuPy, CUDA C++", "copy", "float32", "device"),
        ("torch.mv, cuBLAS", "gemv", "bf16", "device"),
        ("CuPy, CUDA C++", "gemv", "bf16", "device"),
        ("torch.mm, cuBLAS", "gemv", "bf16", "device"),
        ("FlashInfer", "gemv", "nvfp4", "device"),
        ("GemLite", "gemv", "nvfp4", "device"),
        ("torch.mv, cuBLAS", "grouped_gemv", "bf16", "device"),
        ("torch, eager", "dequant", "nvfp4", "device"),
        ("torchao", "dequant", "nvfp4", "device"),
        ("torch.mv", "gemv", "bf16", "host"),
    ]
    page = Page(render(run))
    bars = [text.partition(":")[0] for text in page.having("aria-label")]
    assert bars.count("gemv bf16") == 2, "ours carry no name: one on each side"
    for m in run.measurements:
        if m.is_baseline:
            assert f"{m.op} {m.format} by {library(m)}" in bars
            assert f"{m.op} {m.format} by {library(m)}" in page.text
    assert len(page.classed("rect", "bar-theirs")) == 11 + 2, "and one in each side's legend"
    assert "other libraries' kernels" not in Page(render(example_runs.gb10())).text
