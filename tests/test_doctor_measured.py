"""Bandwidths from nccl-tests' table in a log and from its JSON, and what they say of GB10's link."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
import json
from pathlib import Path
from typing import Any

from doctor_logs import faults, named, read_case
from hypothesis import given
from hypothesis import strategies as st
import nccl_logs as logs
from nccl_logs import NEW, Rank
import pytest
from rank_infos import rank_infos

from roofprobe.ceiling import find_platform
from roofprobe.collectives.nccl_json import Header, document
from roofprobe.collectives.results import Placement, Row, SweepPlan
from roofprobe.doctor.case import Case, MeasuredLink
from roofprobe.doctor.diagnosis import diagnose
from roofprobe.doctor.measured import read_measured
from roofprobe.errors import BadInput

MIB = 1 << 20
GB10 = find_platform("NVIDIA GB10", None)
BOTH = "spark1, spark2"


def curve(plateau: float, largest: int = 1 << 30) -> dict[int, float]:
    return {size: plateau / (1 + 4e5 / size) for size in (1 << 13, 1 << 20, largest) if size <= largest}


@pytest.mark.parametrize(
    ("plateau", "hosts", "expected"),
    [
        pytest.param(23.7, 2, [], id="a healthy pair"),
        pytest.param(21.9, 2, [], id="just passed"),
        pytest.param(18.0, 2, [("link.nic-slow", f"{BOTH} (warning)")], id="more than one half, below the mark"),
        pytest.param(12.2, 2, [("link.one-half", BOTH)], id="one half"),
        pytest.param(9.0, 2, [("link.nic-slow", BOTH)], id="less than a half"),
        pytest.param(1.6, 2, [("link.nic-slow", BOTH)], id="a slow NIC"),
        pytest.param(12.2, 3, [], id="a healthy ring"),
        pytest.param(3.0, 3, [("link.nic-slow", "spark1, spark2, spark3")], id="a ring with a slow NIC"),
        pytest.param(27.0, 2, [("reading.implausible", BOTH)], id="above the port"),
        pytest.param(45.0, 1, [], id="within a host"),
    ],
)
def test_a_table_in_a_log(plateau: float, hosts: int, expected: object, tmp_path: Path) -> None:
    names = tuple(f"spark{n + 1}" for n in range(hosts))
    assert named(faults(tmp_path, [*logs.cluster(hosts, NEW), *logs.table(curve(plateau), names)])) == expected


def test_small_messages_say_nothing(tmp_path: Path) -> None:
    assert faults(tmp_path, logs.table(curve(2.0, largest=8 * MIB))) == []


def test_another_machines_link_is_not_judged(tmp_path: Path) -> None:
    assert faults(tmp_path, logs.table(curve(3.0), gpu="NVIDIA H100 80GB HBM3")) == []
    assert faults(tmp_path, [*logs.h100(NEW), *logs.table(curve(390.0), gpu="NVIDIA H100 80GB HBM3")]) == []


def test_what_sockets_explain_is_not_said_twice(tmp_path: Path) -> None:
    for plateau in (1.1, 11.0):
        lines = [line for rank in (0, 1) for line in logs.over_sockets(Rank(rank), NEW)]
        found = faults(tmp_path, [*lines, *logs.table(curve(plateau))])
        assert {finding.id for finding in found} == {"link.socket-fallback"}
        assert "link.nic-slow" in found[0].evidence


def test_one_half_is_said_once(tmp_path: Path) -> None:
    found = faults(
        tmp_path, [*logs.over_ib(Rank(0), NEW), *logs.over_ib(Rank(1), NEW, ("rocep1s0f0",)), *logs.table(curve(12.0))]
    )
    assert named(found) == [("link.one-half", "spark2")]
    assert "12.00 GB/s" in found[0].evidence or "best busbw" in found[0].evidence


@pytest.mark.parametrize("prefix", ["[rank0]: ", "0: ", "[1,0]<stdout>:"])
def test_a_launchers_prefix_before_the_table(prefix: str, tmp_path: Path) -> None:
    (link,) = read_case(tmp_path, [prefix + line for line in logs.table(curve(20.0))]).links
    assert (link.bytes, link.collective, link.hosts, link.ranks) == (1 << 30, "all_gather", ("spark1", "spark2"), 2)
    assert link.busbw_gb_per_s == pytest.approx(20.0, rel=0.01)


def test_columns_of_other_versions(tmp_path: Path) -> None:
    """-I adds columns between the two placements; very old versions leave two columns of a row empty."""
    column = "    time   algbw   busbw  #wrong   i_min   i_max   i_p99   i_cv%"
    head = f"#       size         count      type   redop    root {column} {column}"
    times = "       0   77.00   88.00   99.00    1.00"
    first, second = (f"    99.00   10.00   {rate}{times}" for rate in ("20.00", "21.00"))
    row = f"    33554432       8388608     float     sum      -1{first}{second}"
    (link,) = read_case(tmp_path, [head, row]).links
    assert link.busbw_gb_per_s == 21.0
    column = "     time   algbw   busbw  error"
    head = f"#       size         count      type   redop    root{column}{column}"
    row = f"    33554432       8388608     float             {'    99.00   10.00   20.00  0e+00' * 2}"
    (link,) = read_case(tmp_path, [head, row]).links
    assert link.busbw_gb_per_s == 20.0


def test_two_tables_of_one_log(tmp_path: Path) -> None:
    both = [*logs.table(curve(20.0)), *logs.table(curve(22.0), name="all_reduce"), *logs.table({64: 0.1}, ("a", "b"))]
    links = read_case(tmp_path, both).links
    assert [(link.collective, link.hosts) for link in links] == [
        ("all_gather", ("spark1", "spark2")),
        ("all_reduce", ("spark1", "spark2")),
        ("all_gather", ("a", "b")),
    ]


def roofprobes(rate: float, **changes: Any) -> dict[str, Any]:
    """As `roofprobe collectives --json` writes it, of a pair on NCCL."""
    plan = SweepPlan(
        min_bytes=64 * MIB,
        max_bytes=64 * MIB,
        step_factor=2,
        step_bytes=0,
        iterations=1,
        warmup_iterations=0,
        dtype="float",
        reduction="sum",
        root=-1,
        checks=1,
        graph_launches=0,
        blocking=0,
        per_iteration=False,
    )
    seconds = 64 * MIB / rate / 1e9
    placement = Placement(mean_seconds=seconds, rank_seconds=((seconds,), (seconds,)), rank_wrong=(0, 0))
    row = Row(bytes=64 * MIB, count=16 * MIB, out_of_place=placement, in_place=placement)
    header = Header(
        arguments=("roofprobe", "collectives", "--collective", "all_reduce"),
        environment={},
        nccl_version=22809,
        plan=plan,
        ranks=rank_infos(["spark1", "spark2"]),
        transport="NCCL, RoCE over rocep1s0f0, 2 ranks on 2 hosts",
        bus_factor=1.0,
        started=datetime(2026, 3, 1),
    )
    return document(header, [row], None, None) | changes


def store(folder: Path, content: object) -> Path:
    path = folder / "measured.json"
    path.write_text(json.dumps(content))
    return path


def test_roofprobes_own_json(tmp_path: Path) -> None:
    (link,) = read_measured(store(tmp_path, roofprobes(3.0)))
    assert (link.collective, link.bytes, link.hosts, link.ranks) == ("all_reduce", 64 * MIB, ("spark1", "spark2"), 2)
    assert link.busbw_gb_per_s == pytest.approx(3.0)
    assert named(diagnose(Case(measured=(link,)))) == [("link.nic-slow", BOTH)]
    two = read_measured(store(tmp_path, [roofprobes(3.0), roofprobes(23.0)]))
    assert diagnose(Case(measured=two)) == ()  # the better one shows what the link can give


def test_gloos_bandwidth_is_not_the_links(tmp_path: Path) -> None:
    measured = read_measured(
        store(tmp_path, roofprobes(1.0, transport="gloo, sockets over enP7s7, 2 ranks on 2 hosts"))
    )
    assert diagnose(Case(measured=measured)) == ()


def test_what_roofprobe_found_itself(tmp_path: Path) -> None:
    slow = "slow rank 1 on spark2: arrives 812 us after all the others (mean), the last in 100 % of the samples"
    fault = {"id": "link.flapping", "severity": "fault", "host": "spark1", "evidence": "it fell", "remedy": "Mend it."}
    stopped = "rank 1 on spark2 (10.77.0.2) stopped answering 3 s ago in all_reduce: its host still does"
    for changes, expected in (
        ({"latency_findings": [slow]}, ("unit.slow-rank", "spark2")),
        ({"latency_findings": ["no rank is slow: the last starts 1 us after the first"]}, None),
        ({"faults": [fault]}, ("link.flapping", "spark1")),
        ({"errors": [stopped], "results": []}, ("collective.hang", "spark2")),
    ):
        measured = read_measured(store(tmp_path, roofprobes(23.0, **changes)))
        assert named(diagnose(Case(measured=measured))) == ([expected] if expected else [])


def test_a_slow_rank_in_roofprobes_text(tmp_path: Path) -> None:
    slow = "# latency: slow rank 1 on spark2: arrives 812 us after all the others (mean)"
    assert named(faults(tmp_path, [*logs.table(curve(23.0)), slow])) == [("unit.slow-rank", "spark2")]


def test_nccl_tests_json_has_texts_for_what_is_no_number(tmp_path: Path) -> None:
    results = [{"size": 64 * MIB, "out_of_place": {"bus_bw": "nan"}, "in_place": None}]
    (link,) = read_measured(store(tmp_path, {"version": 3, "results": results}))
    assert (link.bytes, link.busbw_gb_per_s) == (0, 0.0)
    assert diagnose(Case(measured=(link,), platform=GB10)) == ()


def test_a_platform_makes_the_link_known() -> None:
    link = MeasuredLink(source="m.json", collective=None, ranks=2, bytes=64 * MIB, busbw_gb_per_s=2.0)
    assert diagnose(Case(measured=(link,))) == ()
    assert named(diagnose(Case(measured=(link,), platform=GB10))) == [("link.nic-slow", "m.json")]


@pytest.mark.parametrize("content", ["", "{", "[]x", '{"version": 3}', '{"results": []}', '"text"', "[" * 100_000])
def test_what_is_no_such_json(content: str, tmp_path: Path) -> None:
    path = tmp_path / "measured.json"
    path.write_text(content)
    with pytest.raises(BadInput, match=r"measured\.json.*expected nccl-tests' JSON"):
        read_measured(path)
    with pytest.raises(BadInput, match="can't read"):
        read_measured(tmp_path / "none.json")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["size", "bus_bw", "in_place"]), inner),
    max_leaves=8,
)


@given(results=JSON, config=JSON)
def test_no_json_makes_the_reader_fail(
    results: object, config: object, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = store(tmp_path_factory.getbasetemp(), {"version": 3, "results": results, "config": config})
    with suppress(BadInput):
        diagnose(Case(measured=read_measured(path), platform=GB10))
