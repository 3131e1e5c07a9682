"""Latencies in the report: every mode that was measured, with its percentiles, and what was found."""

from __future__ import annotations

import example_runs
import records
from report_page import Page

from roofprobe.latency_record import LatencyMode, LatencyPoint
from roofprobe.report import render
from roofprobe.units import ABSENT


def point(mode: LatencyMode, samples: int, wrong: int = 0) -> LatencyPoint:
    return LatencyPoint(
        bytes=5760,
        mode=mode,
        operations=1,
        samples_us=tuple(100 + i / 10 for i in range(samples)),
        rank_wrong=(0, wrong),
    )


def test_each_mode_with_samples_has_a_row_and_percentiles_that_enough_samples_tell() -> None:
    missing = LatencyPoint(bytes=5760, mode="graph", operations=10, note="gloo")
    collective = records.collective(
        latency=(point("isolated", 1000), point("loaded", 20, wrong=3), missing),
        latency_findings=("slow rank 1 on node1: <late>",),
    )
    page = Page(render(example_runs.run(records.environment(), [], [collective], [])))
    section = page.section("all_reduce")
    assert "slow rank 1 on node1: <late>" in section
    text = " ".join(section.split())
    assert f"isolated 149.9 189.9 198.9 {ABSENT} 1000 0" in text
    assert f"loaded 100.9 101.7 {ABSENT} {ABSENT} 20 3 ✕" in text
    assert "graph" not in section
