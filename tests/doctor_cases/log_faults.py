"""Faults that NCCL's logs, nccl-tests' tables and torch's errors show."""

from __future__ import annotations

from dataclasses import replace

from doctor_cases.case import Case, Finding
from doctor_cases.clusters import A, B, C, either, logs, pair, trees, unit
from doctor_cases.host import SOFTWARE
from doctor_cases.nccl_text import Process, cluster, text, until_bootstrap
from doctor_cases.tables import document, ramp, table

SOCKETS = r"NET/Socket|Using network Socket|No device found|NCCL_IB_DISABLE"
ALL_FOUR = ("rocep1s0f0", "rocep1s0f1", "roceP2p1s0f0", "roceP2p1s0f1")


def _sockets(evidence: str = SOCKETS, remedy: str = r"uverbs|/dev/infiniband|memlock|NCCL_IB") -> Finding:
    return Finding("link.socket-fallback", either(A, B), evidence, remedy)


container = trees(*pair(verbs=False, memlock="65536"))
disabled = cluster(2, release="2.27.7", nics=(), environment={"NCCL_IB_DISABLE": "1"})
SOCKET = [
    Case("sockets: 2.18", "NCCL's log, old wording", _sockets(), logs=logs(cluster(2, release="2.18.5", nics=()))),
    Case("sockets: 2.28", "NCCL's log, plugins by name", _sockets(), logs=logs(cluster(2, release="2.28.9", nics=()))),
    Case(
        "sockets: NCCL_IB_DISABLE=1", "NCCL's log", _sockets("NCCL_IB_DISABLE", "NCCL_IB_DISABLE"), logs=logs(disabled)
    ),
    Case(
        "sockets: a container without uverbs",
        "NCCL's log with the containers' trees",
        _sockets(SOCKETS),
        roots=container,
        logs=logs(cluster(2, release="2.30.7", nics=())),
    ),
    Case(
        "sockets: with the table that it costs",
        "NCCL's log with a table of 1 GB/s",
        _sockets(),
        logs={**logs(cluster(2, nics=())), "table.txt": table(ramp(1.05))},
    ),
]


def _one_half(evidence: str) -> Finding:
    return Finding("link.one-half", either(A, B), evidence, r"NCCL_IB_HCA|both halves|roceP2p1s0f")


one_nic = {"NCCL_IB_HCA": "rocep1s0f0"}
HALF = [
    Case(
        "one half: 2.18's log",
        "`NET/IB : Using`, old wording",
        _one_half(r"rocep1s0f0"),
        logs=logs(cluster(2, release="2.18.5", nics=("rocep1s0f0",), environment=one_nic)),
    ),
    Case(
        "one half: 2.30's log",
        "`NET/IB : Using`",
        _one_half(r"roceP?2?p1s0f1"),
        logs=logs(cluster(2, release="2.30.7", nics=("roceP2p1s0f1",))),
    ),
    Case(
        "one half: the table of a pair",
        "NCCL's log with a table of 12.2 GB/s",
        _one_half(r"rocep1s0f0"),
        logs={**logs(cluster(2, nics=("rocep1s0f0",), environment=one_nic)), "table.txt": table(ramp(12.2))},
    ),
    Case(
        "one half: 98 Gb/s",
        "nccl-tests' table of 12.2 GB/s alone",
        _one_half(r"12\.[12]|9[678]"),
        logs={"table.txt": table(ramp(12.2))},
        flags=("--platform", "dgx-spark"),
    ),
]

MIXED = "Detected mixed local Net device counts across ranks (min {}, max {})."
fewer, more = (
    replace(cluster(2, release="2.30.7")[1], completes=False),
    replace(cluster(2, release="2.30.7", nics=ALL_FOUR)[0], completes=False),
)
refused = replace(
    more, warnings=(("init.cc:1339", MIXED.format(2, 4) + " Set NCCL_IGNORE_NET_MISMATCH=1 to continue."),)
)
ignored = Process(A, 0, 2, "2.30.7", nics=ALL_FOUR, peers=(1,), after=())
ignored_note = f"{A}:1234:1260 [0] NCCL INFO " + MIXED.format(2, 4) + " Ignoring due to NCCL_IGNORE_NET_MISMATCH.\n"
who = f"{A}:1234:1260 [0] NCCL INFO Rank 1 has 2 local Net devices (max 4).\n"
halved = replace(
    refused,
    nics=ALL_FOUR[::2],
    warnings=(("init.cc:1339", MIXED.format(1, 2) + " Set NCCL_IGNORE_NET_MISMATCH=1 to continue."),),
)
ASYMMETRY = Finding(
    "link.nic-asymmetry", (B, f"{A}, {B}"), r"[Mm]ixed|[24].*[24]|[12].*[12]", r"NCCL_IB_HCA|cable|same"
)
UNEQUAL = [
    Case("unequal NICs: refused", "2.30's warning", ASYMMETRY, logs=logs([refused, fewer])),
    Case(
        "unequal NICs: ignored",
        "2.30's notes",
        ASYMMETRY,
        logs={"a.log": text(ignored) + who + ignored_note, "b.log": text(cluster(2, release="2.30.7")[1])},
    ),
    Case(
        "unequal NICs: one and two",
        "2.30's warning, one half of one unit",
        ASYMMETRY,
        logs=logs([halved, replace(fewer, nics=("rocep1s0f0",))]),
    ),
    Case(
        "unequal NICs: before NCCL said so",
        "2.27's lists of devices",
        ASYMMETRY,
        logs=logs([replace(more, release="2.27.7", completes=True), replace(fewer, release="2.27.7", completes=True)]),
    ),
]

BAD_NIC = Finding(
    "link.nic-slow",
    (*either(A, B), "measured", "table"),
    r"1\.[56]|1[23]\.|3\.0|2[34]\.",
    r"power|cold|unplug|reseat|firmware|ib_write_bw",
)
SLOW = [
    Case(
        "slow NIC: 13 Gb/s",
        "NCCL's log with a table of 1.6 GB/s",
        BAD_NIC,
        logs={**logs(cluster(2)), "table.txt": table(ramp(1.6))},
    ),
    Case(
        "slow NIC: 24 Gb/s",
        "the table of a pair with its healthy trees",
        BAD_NIC,
        roots=trees(*pair()),
        logs={"all_gather.txt": table(ramp(3.04), operation="all_reduce")},
    ),
    Case("slow NIC: nccl-tests' JSON", "--measured", BAD_NIC, roots=trees(*pair()), measured=document(ramp(1.6))),
]

HINTS = tuple(
    f"{A}:1234:1260 [0] NCCL INFO {line}"
    for line in (
        "HINT: In many cases this error occurs when the incorrect GID index is forced by NCCL_IB_GID_INDEX",
        "HINT: To confirm and fix the problem, you can set NCCL_IB_GID_INDEX=-1 to enable automatic detection.",
    )
)
QP = (
    "Call to ibv_modify_qp failed with 22 Invalid argument, on dev rocep1s0f0:1, curr state INIT, next state RTR, "
    "local GID index 5, local GID ::, remote GID ::ffff:192.168.100.11"
)
bad_gid = Process(
    A,
    0,
    2,
    "2.30.7",
    completes=False,
    environment={"NCCL_IB_GID_INDEX": "5"},
    warnings=(("misc/ibvwrap.cc:376", QP),),
    after=HINTS,
)
NO_SOCKET = "Bootstrap : no socket interface found"


def _interface(release: str, where: str, host: str = A) -> str:
    return until_bootstrap(
        Process(host, 0, 2, release, environment={"NCCL_SOCKET_IFNAME": "enp1s0f9"}), where, NO_SOCKET
    )


INTERFACE = Finding(
    "link.interface-wrong", (A,), r"no socket interface found|enp1s0f9|eth9", r"NCCL_SOCKET_IFNAME|GLOO_SOCKET_IFNAME"
)
LAST_ERROR = f"""torch.distributed.DistBackendError: NCCL error in NCCLUtils.hpp, invalid usage, NCCL version 2.21.5
ncclInvalidUsage: This usually reflects invalid usage of NCCL library.
Last error:
{NO_SOCKET}
"""
NO_ADDRESS = "RuntimeError: [enforce fail at device.cc:84] ifa != nullptr. Unable to find address for: eth9\n"
SETTINGS = [
    Case(
        "GID: NCCL's hint",
        "2.30's warning and hints",
        Finding("link.gid-wrong", (A,), r"GID", r"NCCL_IB_GID_INDEX"),
        logs={"a.log": text(bad_gid)},
    ),
    Case("interface: 2.18", "NCCL's warning", INTERFACE, logs={"a.log": _interface("2.18.5", "bootstrap.cc:45")}),
    Case(
        "interface: 2.30",
        "NCCL's warning with a time",
        INTERFACE,
        logs={"a.log": _interface("2.30.7", "bootstrap.cc:126")},
    ),
    Case(
        "interface: torch's exception", "torch's text without NCCL_DEBUG", INTERFACE, logs={"spark-a.log": LAST_ERROR}
    ),
    Case("interface: gloo", "gloo's text", INTERFACE, logs={"spark-a.log": NO_ADDRESS}),
]

VERSIONS = r"2\.?27\.?7|22707|2\.18\.5|21805"
MISMATCH = Finding(
    "nccl.version-mismatch", either(A, B), VERSIONS, r"same.*(NCCL|version)|NCCL.*same|install|one version"
)
different = [replace(p, completes=False, release=r) for p, r in zip(cluster(2), ("2.28.9", "2.27.7"))]
told = replace(
    different[0],
    warnings=(("init.cc:1043", "Mismatched NCCL version detected : rank 1 version 22707 rank 0 version 22809"),),
)
old_versions = [replace(p, release=r, rank=0 if p.rank == 0 else 1) for p, r in zip(cluster(2), ("2.22.3", "2.27.7"))]
mixed_software = (unit(1), unit(2, software={**SOFTWARE, "nccl_loaded": "2.27.7"}))
VERSION = [
    Case("versions: NCCL says so, init hangs", "2.28's warning", MISMATCH, logs=logs([told, different[1]])),
    Case("versions: each log its own", "`NCCL version` lines", MISMATCH, logs=logs(old_versions)),
    Case("versions: as loaded", "software.json of both", MISMATCH, roots=trees(*mixed_software)),
    Case(
        "versions: three of them",
        "software.json, folders",
        replace(MISMATCH, hosts=(C,)),
        roots=trees(unit(1), unit(2), unit(3, software={**SOFTWARE, "nccl_loaded": "2.27.7"})),
        folders=True,
    ),
]


def _stuck(hosts: tuple[str, ...], evidence: str = r"Init START|Init COMPLETE|rank") -> Finding:
    return Finding("nccl.init-stuck", hosts, evidence, r"firewall|NCCL_SOCKET_IFNAME|reach|start|rank|interface|log")


def _hung(count: int, release: str) -> list[Process]:
    return [replace(p, completes=False) for p in cluster(count, release=release)]


STUCK = [
    Case("init stuck: both, 2.28", "Init START without COMPLETE", _stuck(either(A, B)), logs=logs(_hung(2, "2.28.9"))),
    Case(
        "init stuck: both, 2.18",
        "Init START without COMPLETE, old wording",
        _stuck(either(A, B)),
        logs=logs(_hung(2, "2.18.5")),
    ),
    Case("init stuck: both, 2.30", "Init START with [Rank N]", _stuck(either(A, B)), logs=logs(_hung(2, "2.30.7"))),
    Case(
        "init stuck: one of three",
        "COMPLETE on two of three",
        _stuck((C,), r"\b2\b|spark-c"),
        logs=logs([*cluster(3)[:2], replace(cluster(3)[2], completes=False)]),
    ),
    Case(
        "init stuck: the other never came",
        "one log of two",
        _stuck((A, B, "rank 1"), r"rank"),
        logs=logs(_hung(2, "2.28.9")[:1]),
    ),
]

WORK = (
    "WorkNCCL(SeqNum=1580, OpType=ALLREDUCE, NumelIn=466119168, NumelOut=466119168, Timeout(ms)=600000) "
    "ran for 600060 milliseconds before timing out."
)
WATCHDOG = "[Rank 0] Watchdog caught collective operation timeout: "
NEW = f"[rank0]:[E321 02:07:08.408271257 ProcessGroupNCCL.cpp:616] {WATCHDOG}{WORK}"
PASSED = (
    "[rank0]:[E321 02:07:08.465150152 ProcessGroupNCCL.cpp:1785] [PG ID 0 PG GUID 0(default_pg) Rank 0] Exception "
    "(either an error or timeout) detected by watchdog at work: 1580, last enqueued NCCL work: 1582, "
    "last completed NCCL work: 1579."
)
OLD = (
    f"[E ProcessGroupNCCL.cpp:458] {WATCHDOG}WorkNCCL(SeqNum=96120, OpType=ALLREDUCE, Timeout(ms)=1800000) "
    "ran for 1800887 milliseconds before timing out."
)
GLOO = (
    "RuntimeError: Rank 0 timed out in monitoredBarrier after 30000 ms. "
    "Ranks 1 failed to pass monitoredBarrier in 30000 ms"
)
HANG = Finding(
    "collective.hang", either(A, B), r"[Ww]atchdog|ALLREDUCE|monitoredBarrier", r"rank|py-spy|stack|collective|log|node"
)


def _hang(release: str, *lines: str) -> dict[str, str]:
    first, second = cluster(2, release=release)
    return {"a.log": text(replace(first, after=lines)), "b.log": text(second)}


HANGS = [
    Case("hang: torch's watchdog", "torch 2.5 and later", HANG, logs=_hang("2.28.9", NEW, PASSED)),
    Case("hang: an older watchdog", "torch 2.1", HANG, logs=_hang("2.18.5", OLD)),
    Case("hang: monitored barrier", "gloo's text", HANG, logs=_hang("2.27.7", GLOO)),
]
not_locked = replace(
    cluster(2)[0],
    completes=False,
    warnings=(("misc/ibvwrap.cc:212", "Call to ibv_reg_mr failed with error Cannot allocate memory"),),
)
LOCKED = [
    Case(
        "memlock: a buffer that may not be locked",
        "NCCL's warning in a start that is stuck",
        Finding("nccl.memlock-limit", (A,), r"ibv_reg_mr", r"ulimit|memlock"),
        logs={"a.log": text(not_locked)},
    ),
]
LOG_FAULTS = [*SOCKET, *HALF, *UNEQUAL, *SLOW, *SETTINGS, *VERSION, *STUCK, *LOCKED, *HANGS]
