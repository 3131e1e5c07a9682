"""A collective without an in-place form from its record to the profile and the report."""

from __future__ import annotations

import example_runs
import msgspec
import records

from roofprobe.measurement import CollectiveMeasurement
from roofprobe.profile import build_profile
from roofprobe.report import render
from roofprobe.run_file import Run


def sendrecv() -> CollectiveMeasurement:
    points = tuple(msgspec.structs.replace(point, in_place_seconds=()) for point in records.collective().points)
    return records.collective(op="sendrecv", points=points)


def run_of(*collectives: CollectiveMeasurement) -> Run:
    return example_runs.run(records.environment(), [], list(collectives), [])


def test_the_profile_takes_the_only_way_that_was_measured() -> None:
    both = build_profile(run_of(records.collective(), sendrecv())).collectives
    assert [c.op for c in both] == ["all_reduce", "sendrecv"]
    assert both[0].points == both[1].points  # their times are equal in either way
    assert both[1].fit == sendrecv().fit


def test_the_report_draws_every_collective_that_was_measured() -> None:
    page = render(run_of(records.collective(), sendrecv()))
    assert "all_reduce, 2 ranks" in page
    assert "sendrecv, 2 ranks" in page
    assert page.count('<svg class="chart"') == 4


def test_a_point_s_own_time_is_in_place_where_there_is_one() -> None:
    point = msgspec.structs.replace(
        records.collective().points[0], in_place_seconds=(1.0,), out_of_place_seconds=(2.0,)
    )
    assert point.alone_seconds == (1.0,)
    assert msgspec.structs.replace(point, in_place_seconds=()).alone_seconds == (2.0,)
