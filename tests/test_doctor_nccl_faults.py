"""Each fault that NCCL's log or a watchdog's line shows is named once, with its host, and no other fault is."""

from __future__ import annotations

from pathlib import Path

from doctor_logs import faults, named, read_case
import nccl_logs as logs
from nccl_logs import BOTH_HALVES, MERGING, MIDDLE, NEW, OLD, RELEASES, Rank
import pytest

from roofprobe.ceiling import find_platform
from roofprobe.doctor.case import Case
from roofprobe.doctor.diagnosis import diagnose
from roofprobe.doctor.host import Host, Software, look
from roofprobe.recording import RecordedTree

BOTH = "spark1, spark2"


def host(name: str, **software: str) -> Host:
    """A GB10 unit of which only the software is known."""
    told = Software(gpu="NVIDIA GB10", **software)
    return look(name, RecordedTree({}), told, find_platform("NVIDIA GB10", None))


def sockets(release: str) -> list[str]:
    return [line for rank in (0, 1) for line in logs.over_sockets(Rank(rank), release)]


@pytest.mark.parametrize("release", RELEASES)
def test_a_fall_back_to_sockets(release: str, tmp_path: Path) -> None:
    found = faults(tmp_path, sockets(release))
    assert named(found) == [("link.socket-fallback", "spark1"), ("link.socket-fallback", "spark2")]
    assert "NET/IB : No device found., Using network Socket, via NET/Socket/" in found[0].evidence
    assert "--device=/dev/infiniband" in found[0].remedy and "memlock" in found[0].remedy


@pytest.mark.parametrize(
    ("setting", "remedy"),
    [
        ("NCCL_IB_DISABLE set by environment to 1.", "Unset NCCL_IB_DISABLE"),
        ("NCCL_NET set by environment to Socket", "Unset NCCL_NET"),
        ("NCCL_IB_HCA set to mlx5_0", "Unset NCCL_IB_HCA"),
    ],
)
def test_sockets_that_somebody_asked_for(setting: str, remedy: str, tmp_path: Path) -> None:
    lines = [line for line in logs.over_sockets(Rank(0), NEW) if "NET/IB" not in line]
    (found,) = faults(tmp_path, [logs.info(Rank(0), setting), *lines])
    assert named([found]) == [("link.socket-fallback", "spark1")]
    assert setting.split()[0] in found.evidence and found.remedy.startswith(remedy)


@pytest.mark.parametrize("release", RELEASES)
def test_one_half(release: str, tmp_path: Path) -> None:
    found = faults(tmp_path, logs.cluster(2, release, ("roceP2p1s0f1",)))
    assert named(found) == [("link.one-half", "spark1"), ("link.one-half", "spark2")]
    assert "without rocep1s0f1" in found[0].evidence
    assert "NCCL_IB_HCA=roceP2p1s0f1,rocep1s0f1" in found[0].remedy


@pytest.mark.parametrize(
    ("pinned", "blamed"),
    [
        ("rocep1s0f0", True),
        ("=rocep1s0f0", True),
        ("^roceP2", True),
        ("roce", False),
        ("rocep1s0f0,roceP2p1s0f0", False),
    ],
)
def test_one_half_that_was_pinned(pinned: str, blamed: bool, tmp_path: Path) -> None:
    """Where the setting takes both in, it is not the reason."""
    lines = [logs.info(Rank(0), f"NCCL_IB_HCA set to {pinned}"), *logs.over_ib(Rank(0), NEW, ("rocep1s0f0",))]
    (found,) = faults(tmp_path, lines)
    assert found.id == "link.one-half"
    assert (f"NCCL_IB_HCA={pinned} leaves the other out" in found.evidence) is blamed


def test_one_half_of_a_rings_second_port(tmp_path: Path) -> None:
    found = faults(tmp_path, logs.cluster(3, OLD, (*BOTH_HALVES, "rocep1s0f1")))
    assert {finding.id for finding in found} == {"link.one-half"} and len(found) == 3
    assert "without roceP2p1s0f1" in found[0].evidence


def test_one_half_on_one_host_is_no_asymmetry_until_nccl_says_so(tmp_path: Path) -> None:
    lines = [*logs.over_ib(Rank(0), NEW), *logs.over_ib(Rank(1), NEW, ("rocep1s0f0",))]
    assert named(faults(tmp_path, lines)) == [("link.one-half", "spark2")]
    text = "Detected mixed local Net device counts across ranks (min 1, max 2). Set NCCL_IGNORE_NET_MISMATCH=1."
    (found,) = faults(tmp_path, [*lines, *logs.warn(Rank(0), text, NEW)])
    assert named([found]) == [("link.nic-asymmetry", "spark2")]
    assert "min 1, max 2" in found.evidence and "link.one-half on spark2" in found.evidence


def test_unequal_nics_by_the_lists_alone(tmp_path: Path) -> None:
    lines = [line for rank in (0, 1) for line in logs.over_ib(Rank(rank, 3), MIDDLE)]
    lines += logs.over_ib(Rank(2, 3), MIDDLE, (*BOTH_HALVES, "rocep1s0f1", "roceP2p1s0f1"))
    (found,) = faults(tmp_path, lines)
    assert named([found]) == [("link.nic-asymmetry", "spark3")]


def test_a_mismatch_that_was_ignored(tmp_path: Path) -> None:
    text = (
        "Detected mixed local Net device counts across ranks (min 1, max 2). Ignoring due to NCCL_IGNORE_NET_MISMATCH."
    )
    found = faults(tmp_path, [*logs.begin(Rank(0), NEW), logs.info(Rank(0), text), logs.complete(Rank(0), NEW)])
    assert named(found) == [("link.nic-asymmetry", "spark1")]


GID_OLD = "Call to ibv_modify_qp failed with error Invalid argument"
GID_NEW = (
    "Call to ibv_modify_qp failed with 22 Invalid argument, on dev rocep1s0f0:1, curr state INIT, next state RTR, local"
    " GID index 7, local GID N/A, remote GID ::ffff:10.1.0.2"
)
UNREACHABLE = GID_NEW.replace("22 Invalid argument", "101 Network is unreachable").replace("N/A", "fe80::1")


@pytest.mark.parametrize(
    ("release", "text"),
    [(OLD, GID_OLD), (NEW, GID_NEW), (NEW, UNREACHABLE)],
    ids=["2.18", "2.30", "a link-local GID"],
)
def test_a_wrong_gid_explains_the_stuck_start(release: str, text: str, tmp_path: Path) -> None:
    lines = [*logs.begin(Rank(0), release), logs.info(Rank(0), "NCCL_IB_GID_INDEX set by environment to 7.")]
    hint = "HINT: In many cases this error occurs when the incorrect GID index is forced by NCCL_IB_GID_INDEX"
    hints = [logs.info(Rank(0), hint)] if text == GID_NEW else []
    (found,) = faults(tmp_path, [*lines, *logs.warn(Rank(0), text, release, "misc/ibvwrap.cc:187"), *hints])
    assert named([found]) == [("link.gid-wrong", "spark1")]
    assert "NCCL_IB_GID_INDEX=7" in found.evidence and "nccl.init-stuck" in found.evidence


def test_a_queue_pair_that_timed_out_is_no_matter_of_the_gid(tmp_path: Path) -> None:
    text = GID_NEW.replace("22 Invalid argument", "110 Connection timed out").replace("N/A", "::ffff:10.1.0.1")
    found = faults(tmp_path, [*logs.over_ib(Rank(0), NEW), *logs.warn(Rank(0), text, NEW)])
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        "Bootstrap : no socket interface found",
        "Bootstrap: no socket interface found",
        "NET/Socket : No usable listening interface found",
        "NET/Socket : no interface found",
        "no device found matching exactly eth7, verify NCCL_OOB_NET_IFNAME",
    ],
)
def test_no_interface(text: str, tmp_path: Path) -> None:
    found = faults(
        tmp_path, [logs.info(Rank(0), "NCCL_SOCKET_IFNAME set by environment to eth7"), *logs.warn(Rank(0), text, NEW)]
    )
    assert named(found) == [("link.interface-wrong", "spark1")]
    assert "NCCL_SOCKET_IFNAME=eth7" in found[0].evidence


def test_hosts_that_were_to_meet_on_a_bridge_of_their_own(tmp_path: Path) -> None:
    lines = [line.replace("enP7s7", "docker0") for rank in (0, 1) for line in logs.begin(Rank(rank), NEW)]
    found = faults(tmp_path, lines)
    assert named(found) == [("link.interface-wrong", "spark1"), ("link.interface-wrong", "spark2")]
    done = [*lines, logs.complete(Rank(0), NEW), logs.complete(Rank(1), NEW)]
    assert faults(tmp_path, done) == []  # it worked, however odd


def test_versions_that_nccl_says_differ(tmp_path: Path) -> None:
    text = "Mismatched NCCL version detected : rank 0 version 22809 rank 1 version 22705"
    lines = {f"{r}.log": [*logs.begin(Rank(r), NEW), *logs.warn(Rank(r), text, NEW)] for r in (0, 1)}
    (found,) = faults(tmp_path, lines)
    assert named([found]) == [("nccl.version-mismatch", BOTH)]
    assert "2.28.9 on spark1, 2.27.5 on spark2" in found.evidence and "nccl.init-stuck" in found.evidence


def test_the_odd_version_of_three(tmp_path: Path) -> None:
    lines = {f"{r}.log": logs.begin(Rank(r, 3), NEW, "2.27.5" if r == 1 else "2.28.9") for r in range(3)}
    done = {name: [*found, logs.complete(Rank(int(name[0]), 3), NEW)] for name, found in lines.items()}
    (found,) = faults(tmp_path, done)
    assert named([found]) == [("nccl.version-mismatch", "spark2")]


def test_versions_as_hosts_have_them_loaded() -> None:
    of = {"a": "2.28.9+cuda13.0", "b": "2.27.5", "c": "2.28.9"}
    hosts = tuple(host(name, nccl_loaded=version) for name, version in of.items())
    assert named(diagnose(Case(hosts=hosts))) == [("nccl.version-mismatch", "b")]
    assert diagnose(Case(hosts=hosts[::2])) == ()


@pytest.mark.parametrize("release", RELEASES)
def test_a_start_that_is_stuck(release: str, tmp_path: Path) -> None:
    lines = [line for rank in (0, 1) for line in logs.begin(Rank(rank), release)]
    (found,) = faults(tmp_path, lines)
    assert named([found]) == [("nccl.init-stuck", BOTH)]
    assert "rank 0 of 2 on spark1, rank 1 of 2 on spark2" in found.evidence and "no rank completed" in found.evidence


def test_one_rank_of_three_is_stuck(tmp_path: Path) -> None:
    lines = {f"{r}.log": logs.begin(Rank(r, 3), NEW) for r in range(3)}
    lines |= {f"{r}.log": [*lines[f"{r}.log"], logs.complete(Rank(r, 3), NEW)] for r in (0, 2)}
    (found,) = faults(tmp_path, lines)
    assert named([found]) == [("nccl.init-stuck", "spark2")]
    assert "rank 0, 2 completed" in found.evidence


def test_a_rank_that_never_came(tmp_path: Path) -> None:
    lines = {f"{r}.log": logs.begin(Rank(r, 3), NEW) for r in (0, 2)}
    (found,) = faults(tmp_path, lines)
    assert "no log shows that rank 1 began" in found.evidence


def test_a_split_communicator_that_is_stuck(tmp_path: Path) -> None:
    text = "ncclCommSplit comm 0x9 rank 0 nranks 1 cudaDev 0 nvmlDev 0 busId f parent 0x55aa splitCount 1 color 0 key 0"
    done = [*logs.cluster(2, NEW), logs.info(Rank(0), f"{text}- Init START")]
    assert named(faults(tmp_path, done)) == [("nccl.init-stuck", "spark1")]
    assert faults(tmp_path, [*done, logs.info(Rank(0), f"{text} - Init COMPLETE")]) == []


@pytest.mark.parametrize(
    ("release", "text"),
    [
        (OLD, "socketStartConnect: exceeded retries (20000)"),
        (MERGING, "Bootstrap Root : mismatch in rank count from procs 2 : 3"),
        (NEW, "connect to 192.168.1.1<4000> returned Connection refused, exceeded error retry count after 35 attempts"),
    ],
)  # fmt: skip
def test_a_bootstrap_that_gave_up(release: str, text: str, tmp_path: Path) -> None:
    """2.18 writes Init START only once the ranks have met."""
    lines = [logs.info(Rank(1), "Bootstrap : Using enP7s7:192.168.1.2<0>"), *logs.warn(Rank(1), text, release)]
    (found,) = faults(tmp_path, lines)
    assert named([found]) == [("nccl.init-stuck", "spark2")]
    assert text in found.evidence


def test_retries_that_ran_out_explain_the_hang(tmp_path: Path) -> None:
    text = "NET/IB: Got completion from peer 10.1.0.2<41> with status=IBV_WC_RETRY_EXC_ERR(12) opcode=IBV_WC_SEND(0)"
    older = "NET/IB : Got completion from peer 10.1.0.2<41> with error 12, opcode 0, len 0, vendor err 129 (Send)"
    for release, said in ((NEW, text), (OLD, older)):
        lines = [*logs.cluster(2, release), *logs.warn(Rank(0), said, release), logs.watchdog(0)]
        (found,) = faults(tmp_path, lines)
        assert named([found]) == [("link.retries-exhausted", "spark1")]
        assert "collective.hang" in found.evidence
    flushed = text.replace("RETRY_EXC_ERR(12)", "WR_FLUSH_ERR(5)")
    assert faults(tmp_path, [*logs.cluster(2, NEW), *logs.warn(Rank(0), flushed, NEW)]) == []


@pytest.mark.parametrize(
    "text",
    ["NET/IB : Got async event : port error", "NET/IB : rocep1s0f0:1 Got non-fatal async event: port error(10)"],
)
def test_a_port_that_went_down(text: str, tmp_path: Path) -> None:
    found = faults(tmp_path, [*logs.cluster(2, NEW), *logs.warn(Rank(1), text, NEW)])
    assert named(found) == [("link.flapping", "spark2")]


@pytest.mark.parametrize("call", ["ibv_reg_mr", "ibv_reg_mr_iova2", "ibv_create_cq"])
def test_memory_that_may_not_be_locked_explains_a_stuck_start(call: str, tmp_path: Path) -> None:
    failed = logs.warn(Rank(1), f"Call to {call} failed with error Cannot allocate memory", NEW)
    stuck = [line for line in logs.cluster(2, NEW) if "Init COMPLETE" not in line]
    (found,) = faults(tmp_path, [*stuck, *failed])
    assert named([found]) == [("nccl.memlock-limit", "spark2")]
    assert "nccl.init-stuck" in found.evidence and "ulimit" in found.remedy
    other = logs.warn(Rank(1), f"Call to {call} failed with error Bad address", NEW)
    assert named(faults(tmp_path, [*logs.cluster(2, NEW), *other])) == []


PTXAS = "ptxas fatal   : Value 'sm_121a' is not defined for option 'gpu-name'"


def test_ptxas_own_words(tmp_path: Path) -> None:
    assert named(faults(tmp_path, {"nccl.spark7.log": [PTXAS]})) == [("software.ptxas-too-old", "spark7")]
    (found,) = faults(tmp_path, {"train.log": ["`ptxas` stderr:", PTXAS]})
    assert named([found]) == [("software.ptxas-too-old", "train")]
    assert PTXAS in found.evidence and "TRITON_PTXAS_PATH" in found.remedy
    assert named(faults(tmp_path, [*logs.single(NEW), f"[rank0]: {PTXAS}"])) == [("software.ptxas-too-old", "spark1")]


@pytest.mark.parametrize(
    ("ptxas", "old"),
    [("12.8", True), ("Cuda compilation tools, release 12.8, V12.8.93", True), ("12.9.86", False), ("13.0", False)],
)
def test_the_version_of_ptxas(ptxas: str, old: bool) -> None:
    found = diagnose(Case(hosts=(host("a", ptxas=ptxas),)))
    assert named(found) == ([("software.ptxas-too-old", "a")] if old else [])


def test_another_chips_ptxas_may_be_old() -> None:
    other = look("pc", RecordedTree({}), Software(gpu="NVIDIA H100 80GB HBM3", ptxas="12.4"), None)
    assert diagnose(Case(hosts=(other,))) == ()


def test_a_case_keeps_what_its_logs_say(tmp_path: Path) -> None:
    case = read_case(tmp_path, {"a.log": logs.over_ib(Rank(0), NEW), "b.log": [*logs.table({1 << 24: 20.0}), PTXAS]})
    assert [len(log.processes) for log in case.logs] == [1, 0]
    assert [link.busbw_gb_per_s for link in case.links] == [20.0]
    assert case.logs[1].ptxas_errors == (PTXAS,)
