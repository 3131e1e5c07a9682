"""nccl-tests' table and JSON, character by character and type by type."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
import json
import re

import nccl_tests_output as parser
import pytest

from roofprobe.alpha_beta import fit
from roofprobe.collectives.dtypes import find_dtype
from roofprobe.collectives.nccl_json import Header, document
from roofprobe.collectives.results import Placement, RankInfo, Row, SweepPlan
from roofprobe.collectives.sizes import require_memory, sweep_elements
from roofprobe.collectives.table import fixed_width, footer, format_row, header, name_wrong, preamble, summarize
from roofprobe.errors import BadInput

PLAN = SweepPlan(
    min_bytes=8,
    max_bytes=64 << 20,
    step_bytes=1 << 20,
    step_factor=2,
    iterations=4,
    warmup_iterations=5,
    checks=1,
    blocking=0,
    graph_launches=0,
    per_iteration=False,
    dtype="float",
    reduction="sum",
)


def rank(number: int, **changes: object) -> RankInfo:
    fields = {
        "rank": number,
        "pid": 4711 + number,
        "host": "spark-a",
        "machine": "m",
        "network": "m/net",
        "local_rank": number,
        "device_index": number,
        "device_id": f"GPU-{number}",
        "device_address": "000f:01:00",
        "device_name": "NVIDIA GB10",
        "memory_budget_bytes": 1 << 30,
        "shares_memory_with": "m",
    }
    return RankInfo(**{**fields, **changes})  # type: ignore[arg-type]


def placement(mean: float, wrong: tuple[int, int] | None = (0, 0)) -> Placement:
    return Placement(mean, ((0.9 * mean, mean, mean, 1.1 * mean), (mean, mean, mean, mean)), wrong)


ROWS = [
    Row(8, 2, placement(12.346e-6), placement(9.5e-6)),
    Row(67108864, 16777216, placement(0.011755012), placement(2.51e-3, (1, 2))),
]
RANKS = (rank(0), rank(1))


def whole_output(rows: list[Row] = ROWS, plan: SweepPlan = PLAN) -> str:
    lines = preamble("all_reduce", "0.1.0 torch=2 nccl-library=22903", plan, RANKS, ["transport: test"])
    lines += header(plan.per_iteration) + [format_row(row, plan, 1.0) for row in rows]
    return "\n".join(lines + footer("all_reduce", rows, 1.0))


# `|` marks where a line ends: the blanks before it are nccl-tests' own.
GOLDEN = """
# roofprobe version 0.1.0 torch=2 nccl-library=22903|
# Collective test starting: all_reduce|
# nThread 1 nGpus 1 minBytes 8 maxBytes 67108864 step: 2(factor) warmup iters: 5 iters: 4 agg iters: 1 \
validation: 1 graph: 0 unalign: 0|
# transport: test|
#|
# Using devices|
#  Rank  0 Group  0 Pid   4711 on    spark-a device  0 [000f:01:00] NVIDIA GB10|
#  Rank  1 Group  0 Pid   4712 on    spark-a device  1 [000f:01:00] NVIDIA GB10|
#|
#                                                              out-of-place                       in-place          |
#       size         count      type   redop    root     time   algbw   busbw  #wrong     time   algbw   busbw  #wrong |
#        (B)    (elements)                               (us)  (GB/s)  (GB/s)             (us)  (GB/s)  (GB/s)         |
           8             2     float     sum      -1    12.35    0.00    0.00       0     9.50    0.00    0.00       0|
    67108864      16777216     float     sum      -1  11755.0    5.71    5.71       0  2510.00   26.74   26.74       3|
# Out of bounds values : 1 FAILED|
# Avg bus bandwidth    : 8.11176 |
#|
# Collective test concluded: all_reduce|
#|
"""


def test_the_whole_output_is_nccl_tests_own_character_for_character() -> None:
    assert whole_output() + "\n" == GOLDEN.lstrip("\n").replace("|\n", "\n")


@pytest.mark.parametrize("per_iteration", [False, True])
def test_header_and_rows_have_the_reference_widths(per_iteration: bool) -> None:
    """Against nccl-tests' own printf formats, which Python's % reads too."""
    plan = replace(PLAN, per_iteration=per_iteration)
    iteration = "  %7s  %7s  %7s  %7s" if per_iteration else ""
    columns = "  %7s  %6s  %6s  %6s" + iteration
    form = "# %10s  %12s  %8s  %6s  %6s" + 2 * columns + " "
    titles = ["time", "algbw", "busbw", "#wrong"] + ["i_min", "i_max", "i_p99", "i_cv%"] * per_iteration
    units = ["(us)", "(GB/s)", "(GB/s)", ""] + ["(us)", "(us)", "(us)", "(%)"] * per_iteration
    assert header(per_iteration)[2] == form % ("size", "count", "type", "redop", "root", *titles, *titles)
    assert header(per_iteration)[3] == form % ("(B)", "(elements)", "", "", "", *units, *units)
    row = format_row(ROWS[1], plan, 1.0)
    assert len(row) == len(header(per_iteration)[2]) - 1
    assert row.startswith("%12d  %12d  %8s  %6s  %6d" % (67108864, 16777216, "float", "sum", -1))  # noqa: UP031


def test_unchecked_columns_are_not_available_and_fail_nothing() -> None:
    rows = [replace(ROWS[0], out_of_place=placement(1e-5, None), in_place=placement(1e-5, None))]
    row = format_row(rows[0], PLAN, 1.0)
    assert row.count("    N/A") == 2
    assert len(row) == len(header(False)[2]) - 1
    assert "Out of bounds values : 0 OK" in footer("all_reduce", rows, 1.0)[0]


@pytest.mark.parametrize(
    ("value", "width", "text"),
    [
        (0.0, 6, "  0.00"),
        (999.994, 6, "999.99"),
        (999.996, 6, "1000.0"),
        (9999.96, 6, " 10000"),
        (123456.7, 7, " 123457"),
        (99999.96, 7, " 100000"),
        (12345678.0, 7, "1.2e+07"),
        (1234567.0, 6, " 1e+06"),
    ],
)
def test_figures_lose_decimals_before_they_lose_their_column(value: float, width: int, text: str) -> None:
    assert fixed_width(value, width) == text


def test_programs_that_count_columns_from_the_end_read_it() -> None:
    text = whole_output()
    assert parser.by_negative_column(text, "time") == {8: 12.35, 67108864: 11755.0}
    assert parser.by_negative_column(text, "busbw", in_place=True) == {8: 0.0, 67108864: 26.74}
    assert parser.by_negative_column(text, "#wrong", in_place=True)[67108864] == 3
    assert parser.out_of_bounds(text) == (1, "FAILED")
    assert parser.average_bus_gb_per_s(text) == pytest.approx(8.112, abs=0.001)
    assert [m["name"] for m in parser.RANK.finditer(text)] == ["NVIDIA GB10"] * 2


def test_the_rank_with_wrong_elements_is_named() -> None:
    assert name_wrong(ROWS, RANKS) == [
        "rank 0 on spark-a: 1 wrong elements, at sizes 67108864",
        "rank 1 on spark-a: 2 wrong elements, at sizes 67108864",
    ]
    assert name_wrong(ROWS[:1], RANKS) == []


def test_a_rank_that_received_something_else_is_named_whatever_the_elements_say() -> None:
    three = (*RANKS, rank(2))
    odd = Placement(1e-3, ((1e-3,),) * 3, (0, 1, 0), odd_ranks=(1,))
    assert name_wrong([Row(64, 16, odd, odd)], three) == [
        "rank 1 on spark-a: 2 wrong elements, at sizes 64",
        "rank 1 on spark-a: its bytes are not those of most ranks, at sizes 64",
    ]


def test_reduction_and_root_are_shown_as_the_plan_names_them() -> None:
    plan = replace(PLAN, reduction="none", root=1)
    assert format_row(ROWS[0], plan, 1.0).split()[2:5] == ["float", "none", "1"]
    assert document(example_header(plan), ROWS[:1], None, None)["results"][0]["root"] == "     1"


def test_the_iteration_summary_uses_nearest_rank_percentiles() -> None:
    s = summarize([float(i) for i in range(1, 101)])
    assert (s.minimum, s.p50, s.p95, s.p99, s.maximum) == (1, 51, 95, 99, 100)
    assert summarize([3.0, 1.0, 2.0]).p99 == 3.0
    assert s.variation_percent == pytest.approx(57.16, abs=0.01)


def example_header(plan: SweepPlan = PLAN) -> Header:
    return Header(
        arguments=("allreduce", "-b", "8"),
        environment={"NCCL_PROTO": "LL", "AWS_SECRET_ACCESS_KEY": "hush", "PATH": "/bin"},
        nccl_version=22903,
        plan=plan,
        ranks=RANKS,
        transport="NCCL, 2 ranks on 2 hosts, path not proven",
        bus_factor=1.0,
        started=datetime(2026, 1, 31, 12, 0, 0),
    )


def test_json_has_version_3s_keys_and_types_and_no_secret() -> None:
    found = fit([(row.bytes, row.in_place.seconds) for row in ROWS], 1.0)
    document_ = document(example_header(), ROWS, found, datetime(2026, 1, 31, 12, 0, 9))
    text = json.dumps(document_)
    assert "hush" not in text
    loaded = json.loads(text)
    assert loaded["version"] == 3
    assert loaded["env"] == ["NCCL_PROTO=LL"]
    assert loaded["nccl_version"] == 22903
    assert re.fullmatch(r"2026-01-31 12:00:09", loaded["end_time"])
    assert loaded["config"]["step_factor"] == 2
    assert loaded["config"]["parallel_init"] == "false"
    assert set(loaded["config"]["devices"][0]) == {
        "rank", "group", "pid", "hostname", "device", "device_hex", "device_info"
    }  # fmt: skip
    last = loaded["results"][1]
    assert (last["size"], last["count"], last["type"], last["redop"], last["root"]) == (
        67108864, 16777216, "float", "sum", "    -1"
    )  # fmt: skip
    assert last["in_place"]["nwrong"] == 3
    assert last["out_of_place"]["time"] == pytest.approx(11755.012)
    assert last["out_of_place"]["bus_bw"] == pytest.approx(5.709, abs=0.001)
    assert loaded["out_of_bounds"] == {"count": 1, "okay": "false"}
    assert loaded["average_bus_bandwidth"]["okay"] == "unchecked"
    assert loaded["transport"].startswith("NCCL")
    assert {"min_bytes", "max_bytes", "alpha_us", "beta_gb_per_s", "interval"} <= set(loaded["fit"][0])


def test_json_tells_how_well_the_fit_does_at_sizes_left_out_of_it() -> None:
    samples = [(1 << i, [20e-6 + (1 << i) / 10e9] * 6) for i in range(3, 20)]
    found = document(example_header(), ROWS, fit(samples, 1.0), None)["fit_held_out_error"]
    assert set(found) == {"typical", "worst", "worst_bytes"}
    assert found["worst"] < 0.01
    assert document(example_header(), ROWS, None, None)["fit_held_out_error"] is None


def test_json_keeps_every_iteration_of_every_rank_when_asked() -> None:
    result = document(example_header(replace(PLAN, per_iteration=True)), ROWS, None, None)["results"][0]
    per_iteration = result["out_of_place_per_iter"]
    ranks = per_iteration["per_process_max_times_us"]
    assert per_iteration["times_us"] == [max(times) for times in zip(*ranks)]
    assert per_iteration["max_us"] == max(per_iteration["times_us"])
    assert "out_of_place_per_iter" not in document(example_header(), ROWS, None, None)["results"][0]


def test_json_before_the_end_says_so() -> None:
    unfinished = document(example_header(), ROWS[:1], None, None)
    assert unfinished["end_time"] is None
    assert unfinished["fit"] == []
    assert len(unfinished["results"]) == 1
    assert document(example_header(), [], None, None)["average_bus_bandwidth"]["bandwidth"] == 0.0


@pytest.mark.parametrize(
    ("smallest", "largest", "factor", "step", "dtype", "counts"),
    [
        (8, 64, 2, 0, "float", [2, 4, 8, 16]),
        (8, 32, 1, 8, "float", [2, 4, 6, 8]),
        (1, 8, 2, 0, "float", [1, 2]),  # 1 and 2 bytes hold no float: nccl-tests prints rows of size 0 here
        (5, 11, 1, 1, "half", [2, 3, 4, 5]),  # rounded down to whole elements, each once
        (0, 4, 2, 0, "int8", [1, 2, 4]),
        (64, 64, 2, 0, "double", [8]),
        (8, 100, 3, 0, "float", [2, 6, 18]),
    ],
)
def test_sweep_sizes(smallest: int, largest: int, factor: int, step: int, dtype: str, counts: list[int]) -> None:
    plan = replace(PLAN, min_bytes=smallest, max_bytes=largest, step_factor=factor, step_bytes=step)
    assert sweep_elements(plan, find_dtype(dtype)) == counts


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"min_bytes": 16, "max_bytes": 8}, "-b 16 is above -e 8"),
        ({"step_factor": 1, "step_bytes": 0}, "never grow"),
        ({"min_bytes": 1, "max_bytes": 3}, "holds one float"),
    ],
)
def test_unusable_sizes_are_refused(changes: dict[str, int], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        sweep_elements(replace(PLAN, **changes), find_dtype("float"))  # type: ignore[arg-type]


def test_buffers_beyond_a_quarter_of_the_memory_are_refused_with_the_size_needed() -> None:
    require_memory(512 << 20, RANKS)
    with pytest.raises(BadInput, match=r"need 1\.25 GiB on spark-a .*2 ranks.*1\.00 GiB"):
        require_memory(640 << 20, RANKS)
    # Ranks with memories of their own need only their own room.
    require_memory(640 << 20, (rank(0, shares_memory_with="GPU-0"), rank(1, shares_memory_with="GPU-1")))
    require_memory(640 << 20, RANKS, force=True)
    with pytest.raises(BadInput, match="all of the available memory"):
        require_memory(2100 << 20, RANKS, force=True)
