"""Which network ranks used: put together from synthetic NCCL logs and counters of synthetic GB10 units."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
import json
import os
from pathlib import Path
import socket

from gb10_tree import HALVES, gb10_entries, record
import msgspec
import nccl_logs as logs
from nccl_logs import NEW, OLD, RELEASES, Rank
import pytest
from rank_infos import rank_infos

from roofprobe.collectives.host_facts import HostFacts, host_facts
from roofprobe.collectives.nccl_debug import NcclDebug
from roofprobe.collectives.nccl_json import Header, document
from roofprobe.collectives.results import SweepPlan
from roofprobe.collectives.transport import Told, assemble, carriers, links_of
from roofprobe.collectives.transport_records import HostTraffic, TransportProof
from roofprobe.errors import FAILED, OK
from roofprobe.nccl_log import read_log
from roofprobe.nccl_log_summary import ProcessLog, summarize
from roofprobe.probes.collective_network import Network
from roofprobe.recording import open_tree

PAIR = ("spark1", "spark2")
EXPECTED = 128 << 20
SOFT_ROCE = Path(__file__).resolve().parent / "recordings" / "softroce.json"


def log_of(lines: list[str]) -> ProcessLog:
    (found,) = summarize(read_log(line.encode() for line in lines))
    return found


def facts(tmp_path: Path, node: int = 1, **environment: str) -> HostFacts:
    return host_facts(record(gb10_entries(node), tmp_path / f"root-{node}.json"), environment)


def no_rdma() -> HostFacts:
    return HostFacts(devices=(), verbs_nodes=0, locked_memory_bytes=None, choices={}, gloo_interface=None)


def traffic(
    host: str, interfaces: dict[str, float] | None = None, ports: dict[str, float] | None = None
) -> HostTraffic:
    """Counters as shares of what was expected."""
    return HostTraffic(
        host=host,
        expected_bytes=EXPECTED,
        interfaces={name: round(share * EXPECTED) for name, share in (interfaces or {}).items()},
        ports={name: round(share * EXPECTED) for name, share in (ports or {}).items()},
    )


HALVES_MOVED = {"rocep1s0f0/1": 0.5, "roceP2p1s0f0/1": 0.51, "rocep1s0f1/1": 0.0}


def nccl_pair(
    tmp_path: Path, lines: list[list[str]], moved: list[HostTraffic], of_host: HostFacts | None = None
) -> TransportProof:
    told = [Told(links=links_of(log_of(each)), facts=of_host or facts(tmp_path)) for each in lines]
    return assemble("nccl", rank_infos(PAIR), told, moved)


@pytest.mark.parametrize("release", RELEASES)
def test_a_healthy_pair_is_roce_over_both_halves(tmp_path: Path, release: str) -> None:
    proof = nccl_pair(
        tmp_path,
        [logs.over_ib(Rank(rank), release) for rank in (0, 1)],
        [traffic(host, {"enP7s7": 0.001}, HALVES_MOVED) for host in PAIR],
    )
    assert proof.faults == ()
    assert proof.summary == "NCCL, RoCE over rocep1s0f0 and roceP2p1s0f0, 2 ranks on 2 hosts"
    assert proof.lines()[1] == (
        "transport: spark1 <-> spark2: RoCE over rocep1s0f0 and roceP2p1s0f0 (NCCL log; port counters 1.01 of expected)"
    )
    assert proof.pairs[0].gpu_direct is False


@pytest.mark.parametrize("release", RELEASES)
def test_sockets_beside_active_roce_are_a_fault(tmp_path: Path, release: str) -> None:
    proof = nccl_pair(
        tmp_path,
        [logs.over_sockets(Rank(rank), release) for rank in (0, 1)],
        [traffic(host, {"enP7s7": 1.04, "lo": 3.0}) for host in PAIR],
        changed(facts(tmp_path), verbs_nodes=0),
    )
    assert proof.summary == "NCCL, sockets over enP7s7, 2 ranks on 2 hosts"
    assert [(f.id, f.severity, f.host) for f in proof.faults] == [
        ("link.socket-fallback", "fault", "spark1"),
        ("link.socket-fallback", "fault", "spark2"),
    ]
    warning = proof.warnings()[0]
    assert warning.startswith("WARNING: link.socket-fallback: spark1: NCCL fell back to sockets over enP7s7 although")
    assert "--device=/dev/infiniband" in warning
    assert "interface counters 1.04 of expected" in proof.lines()[1]


def changed(found: HostFacts, **changes: object) -> HostFacts:
    return msgspec.structs.replace(found, **changes)


@pytest.mark.parametrize(
    ("environment", "limits", "says"),
    [
        ({"NCCL_IB_DISABLE": "1"}, {}, "NCCL_IB_DISABLE=1 turns RDMA off"),
        ({}, {"verbs_nodes": 0}, "/dev/infiniband/uverbs*"),
        ({}, {"locked_memory_bytes": 8 << 20}, "only 8192 KiB of memory may be locked"),
        ({"NCCL_IB_HCA": "mlx5_7"}, {}, "NCCL_IB_HCA=mlx5_7 may name none of them"),
        ({"NCCL_NET_PLUGIN": "aws"}, {}, "NCCL_NET_PLUGIN chooses another network"),
        ({}, {}, "check /dev/infiniband, ulimit -l"),
    ],
    ids=["disabled", "no device nodes", "memlock", "wrong HCA", "plugin", "nothing seen"],
)
def test_the_remedy_is_for_what_is_seen_in_the_way(
    tmp_path: Path, environment: dict[str, str], limits: dict[str, int], says: str
) -> None:
    seen = changed(facts(tmp_path, **environment), **{"verbs_nodes": 4, "locked_memory_bytes": None, **limits})
    lines = [logs.over_sockets(Rank(rank), NEW) for rank in (0, 1)]
    proof = nccl_pair(tmp_path, lines, [traffic(host, {"enP7s7": 1.0}) for host in PAIR], seen)
    assert says in proof.faults[0].remedy


def test_sockets_that_were_asked_for_or_have_no_rdma_beside_them_are_no_fault(tmp_path: Path) -> None:
    lines = [logs.over_sockets(Rank(rank), NEW) for rank in (0, 1)]
    moved = [traffic(host, {"enP7s7": 1.0}) for host in PAIR]
    asked = nccl_pair(tmp_path, lines, moved, facts(tmp_path, NCCL_NET="Socket"))
    assert {f.severity for f in asked.faults} == {"info"}
    assert asked.warnings()[0].startswith("NOTE: ")
    assert nccl_pair(tmp_path, lines, moved, no_rdma()).faults == ()
    one_sided = [Told(links=links_of(log_of(each)), facts=f) for each, f in zip(lines, (facts(tmp_path), no_rdma()))]
    assert assemble("nccl", rank_infos(PAIR), one_sided, moved).faults == ()


def test_one_half_of_the_link_is_a_warning_with_its_remedy(tmp_path: Path) -> None:
    lines = [logs.over_ib(Rank(rank), NEW, devices=("rocep1s0f0",)) for rank in (0, 1)]
    proof = nccl_pair(tmp_path, lines, [traffic(host, {}, {"rocep1s0f0/1": 1.01}) for host in PAIR])
    assert [(f.id, f.severity) for f in proof.faults] == [("link.one-half", "warning")] * 2
    assert "NCCL_IB_HCA=rocep1s0f0,roceP2p1s0f0" in proof.faults[0].remedy

    down = gb10_entries(1, tuple(replace(half, up=half.device == "rocep1s0f0") for half in HALVES))
    seen = host_facts(record(down, tmp_path / "down.json"), {})
    proof = nccl_pair(tmp_path, lines, [traffic(host, {}, {"rocep1s0f0/1": 1.01}) for host in PAIR], seen)
    assert "bring roceP2p1s0f0's port up" in proof.faults[0].remedy


def test_without_a_log_the_counters_tell(tmp_path: Path) -> None:
    def by(interfaces: dict[str, float], ports: dict[str, float]) -> TransportProof:
        told = [Told(links=(), facts=facts(tmp_path)) for _ in PAIR]
        return assemble("nccl", rank_infos(PAIR), told, [traffic(host, interfaces, ports) for host in PAIR])

    rdma = by({"enP7s7": 0.01}, HALVES_MOVED)
    assert rdma.pairs[0].words == "RDMA over rocep1s0f0 and roceP2p1s0f0"
    assert rdma.faults == ()
    sockets = by({"enP7s7": 1.03}, dict.fromkeys(HALVES_MOVED, 0.0))
    assert sockets.pairs[0].network == "sockets"
    assert sockets.faults[0].id == "link.socket-fallback"
    nothing = by({"enP7s7": 0.2}, dict.fromkeys(HALVES_MOVED, 0.1))
    assert nothing.pairs[0].network == "unknown" and nothing.pairs[0].evidence == ()
    assert nothing.summary == "NCCL, unknown, 2 ranks on 2 hosts, path not proven"
    assert nothing.lines()[1].endswith("(not proven)")
    assert "NCCL's log was not read" in nothing.lines()[2]


def test_a_port_that_counts_nothing_is_not_taken_for_sockets(tmp_path: Path) -> None:
    """Soft-RoCE's bytes go through the network interface, whose counters can't tell them from TCP's."""
    told = [Told(links=(), facts=host_facts(open_tree(SOFT_ROCE), {})) for _ in PAIR]
    proof = assemble("nccl", rank_infos(PAIR), told, [traffic(host, {"va": 1.02}) for host in PAIR])
    assert proof.pairs[0].network == "unknown" and proof.faults == ()
    lines = [logs.over_ib(Rank(rank), NEW, devices=("rxe0",)) for rank in (0, 1)]
    logged = nccl_pair(tmp_path, lines, [traffic(host, {"va": 1.02}) for host in PAIR], told[0].facts)
    assert logged.lines()[1] == "transport: spark1 <-> spark2: RoCE over rxe0 (NCCL log; the ports have no counters)"


def test_gloo_is_proven_by_the_interface_that_sent_the_bytes() -> None:
    ranks = rank_infos(("node1", "node2", "node2"))
    told = [Told(links=(), facts=no_rdma())] * 3
    proof = assemble("gloo", ranks, told, [traffic(host, {"eth0": 1.004, "lo": 9.0}) for host in ("node1", "node2")])
    assert proof.summary == "gloo over eth0, 3 ranks on 2 hosts"
    assert [(pair.ranks, pair.words) for pair in proof.pairs] == [
        ((0, 1), "gloo over eth0"),
        ((0, 2), "gloo over eth0"),
        ((1, 2), "loopback"),
    ]
    assert proof.lines()[1] == "transport: node1 <-> node2: gloo over eth0 (interface counters 1.00 of expected)"

    silent = assemble("gloo", ranks, told, [traffic(host, {"eth0": 0.1}) for host in ("node1", "node2")])
    assert silent.summary == "gloo, 3 ranks on 2 hosts, path not proven"


def test_ranks_of_one_host_never_pass_for_a_network() -> None:
    told = [Told(links=(), facts=no_rdma())] * 2
    proof = assemble("gloo", rank_infos(("node1", "node1")), told, ())
    assert proof.lines() == ["transport: gloo over loopback, 2 ranks on this host"]
    for how, words in (("P2P/CUMEM/read", "P2P over CUMEM/read"), ("SHM/direct/direct", "shared memory")):
        each = [Told(links=links_of(log_of(logs.within_a_host(Rank(r), OLD, how))), facts=no_rdma()) for r in (0, 1)]
        proof = assemble("nccl", rank_infos(("spark1", "spark1")), each, ())
        assert proof.summary == f"NCCL, {words}, 2 ranks on this host"
        assert proof.lines()[1] == f"transport: rank 0 <-> rank 1: {words} (NCCL log)"
    assert assemble("nccl", rank_infos(("spark1",)), told[:1], ()).summary == "NCCL, 1 rank on this host"


def test_faults_are_in_the_document_and_in_the_exit_status(tmp_path: Path) -> None:
    lines = [logs.over_sockets(Rank(rank), NEW) for rank in (0, 1)]
    moved = [traffic(host, {"enP7s7": 1.0}) for host in PAIR]
    fell_back, meant = (
        nccl_pair(tmp_path, lines, moved, facts(tmp_path, **environment))
        for environment in ({}, {"NCCL_NET": "Socket"})
    )
    plan = SweepPlan(8, 8, 0, 2, 1, 1, 1, 0, 0, False, "float", "sum")
    head = Header((), {}, 23007, plan, rank_infos(PAIR), fell_back.summary, 1.0, datetime.now(), proof=fell_back)
    found = json.loads(json.dumps(document(head, (), None, None)))
    assert found["transport"] == "NCCL, sockets over enP7s7, 2 ranks on 2 hosts"
    assert [fault["id"] for fault in found["faults"]] == ["link.socket-fallback"] * 2
    assert found["transport_pairs"][0]["evidence"] == ["NCCL log", "interface counters 1.00 of expected"]
    assert found["transport_traffic"][0]["interfaces"] == {"enP7s7": EXPECTED}
    assert Network(fell_back, (), ()).exit_status == FAILED
    assert Network(meant, (), ()).exit_status == OK


def test_a_bond_and_its_members_are_counted_once() -> None:
    assert carriers(traffic("a", {"bond0": 1.01, "eth0": 0.5, "eth1": 0.5})) == (("bond0",), pytest.approx(1.01))
    assert carriers(traffic("a", {"eth0": 0.6, "eth1": 0.4, "eth2": 0.01})) == (("eth0", "eth1"), pytest.approx(1.0))
    assert carriers(traffic("a", {"lo": 1.0, "eth0": 0.3})) is None


def test_nccls_log_is_read_from_memory_and_the_environment_given_back() -> None:
    environment = {"HOME": "/"}
    debug = NcclDebug(environment)
    assert environment["NCCL_DEBUG"] == "INFO" and "COLL" not in environment["NCCL_DEBUG_SUBSYS"].split(",")
    # As NCCL does: opened by name, for writing anew, line by line.
    with open(environment["NCCL_DEBUG_FILE"], "w", buffering=1) as file:
        for line in logs.over_ib(Rank(0, pid=os.getpid()), NEW):
            print(line, file=file)
        debug.restore()
        assert environment == {"HOME": "/"}
        found = debug.read()
    assert found is not None and found.network == "IB" and len(found.connections) == 4


@pytest.mark.parametrize("name", ["log.txt", "log.%h.%p", "100%%.log"])
def test_a_log_that_the_user_asked_for_is_read_and_left_alone(tmp_path: Path, name: str) -> None:
    environment = {"NCCL_DEBUG": "INFO", "NCCL_DEBUG_FILE": str(tmp_path / name)}
    before = dict(environment)
    debug = NcclDebug(environment)
    assert environment == before
    host = socket.gethostname().partition(".")[0]
    real = name.replace("%h", host).replace("%p", str(os.getpid())).replace("%%", "%")
    (tmp_path / real).write_text("\n".join(logs.over_sockets(Rank(0, pid=os.getpid()), OLD)))
    found = debug.read()
    assert found is not None and found.network == "Socket"
    debug.restore()
    assert environment == before


@pytest.mark.parametrize(
    "environment",
    [{"NCCL_DEBUG": "INFO"}, {"NCCL_DEBUG": "WARN", "NCCL_DEBUG_FILE": "/dev/null"}],
    ids=["stdout", "warn"],
)
def test_output_that_goes_elsewhere_is_not_taken_away(environment: dict[str, str]) -> None:
    debug = NcclDebug(environment)
    assert set(environment) <= {"NCCL_DEBUG", "NCCL_DEBUG_FILE"}
    assert debug.read() is None
