"""Machines, logs and samplings with nothing wrong, each close to a fault in some way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from doctor_cases.case import Case
from doctor_cases.clean_others import OTHERS
from doctor_cases.clusters import (
    FIRST,
    SECOND,
    A,
    B,
    C,
    D,
    edited,
    logs,
    pair,
    ring,
    spoil,
    spoil_port,
    switch,
    trees,
    unit,
)
from doctor_cases.host import SOFTWARE, Host
from doctor_cases.nccl_text import RELEASES, Process, cluster, text
from doctor_cases.recorded import put, put_error, remove
from doctor_cases.sampling import healthy, jsonl, samples, sentinels
from doctor_cases.tables import document, ramp, table


def _clean(name: str, seen: str, **given: Any) -> Case:
    return Case(name, seen, None, 0, **given)


CONF = "NCCL_IB_HCA=rocep1s0f0,roceP2p1s0f0\nNCCL_IB_GID_INDEX=3\nNCCL_SOCKET_IFNAME=enP7s7\nNCCL_IB_MERGE_NICS=1\n"
crossed = (unit(1, (0,)), unit(2, (1,)))
crossed_same_nets = (
    crossed[0],
    spoil(spoil(crossed[1], FIRST, 1, address="192.168.100.11/24"), SECOND, 1, address="192.168.101.11/24"),
)
unused_mtu = (spoil_port(unit(1), 1, mtu=9000), spoil_port(unit(2), 1, mtu=1500))
single = trees(unit())[A]
old_kernel = trees(unit(speed="32 GT/s"))[A]
wide_slot = trees(unit())[A]
for path in [p for p in wide_slot if p.endswith("/max_link_width")]:
    put(wide_slot, path, "16")
unreadable = trees(unit())[A]
for path in [p for p in unreadable if "/hw_counters/" in p or "/board_id" in p]:
    put_error(unreadable, path, 13, "Permission denied")
idle_link_state = trees(unit())[A]
for path in [p for p in idle_link_state if p.endswith(("s0f1np1/carrier", "s0f1np1/speed"))]:
    put_error(idle_link_state, path, 22, "Invalid argument")
few_files = trees(unit())[A]
remove(few_files, "/proc/net")
remove(few_files, "/proc/self")

MACHINES = [
    _clean("single unit without a cable", "a tree without ConnectX-7 functions", roots=trees(Host())),
    _clean(
        "single unit without a cable, pinned settings",
        "a tree and etc/nccl.conf",
        roots=trees(Host(nccl_conf="NCCL_DEBUG=INFO\nNCCL_SOCKET_IFNAME=enP7s7\n")),
        folders=True,
    ),
    _clean("single unit with one cable", "a tree", roots={A: single}),
    _clean("single unit with one cable, folder", "a tree", roots={A: single}, folders=True),
    _clean("pair, cable in port 0", "two trees", roots=trees(*pair())),
    _clean("pair, cable in port 1", "two trees, folders", roots=trees(*pair((1,))), folders=True),
    _clean("pair, crossed", "port 0 here, port 1 there", roots=trees(*crossed_same_nets)),
    _clean("pair, two cables", "two trees", roots=trees(*pair((0, 1)))),
    _clean(
        "pair, the settings of the playbook",
        "two trees and etc/nccl.conf",
        roots=trees(*pair(nccl_conf=CONF)),
        folders=True,
    ),
    _clean("pair, unused ports' MTU differs", "two trees", roots=trees(*unused_mtu)),
    _clean("ring of three", "three trees", roots=trees(*ring())),
    _clean("ring of three, folders", "three trees", roots=trees(*ring()), folders=True),
    _clean("three on a switch", "three trees", roots=trees(*switch(3))),
    _clean("four on a switch, port 1", "four trees, folders", roots=trees(*switch(4, 1)), folders=True),
    _clean(
        "four makers on a switch",
        "ASUS, Dell, Lenovo and NVIDIA",
        roots=trees(*(unit(n, maker=m, software=None) for n, m in enumerate(("nvidia", "asus", "dell", "lenovo"), 1))),
    ),
    _clean("an older kernel's link speed", "`32 GT/s`", roots={A: old_kernel}),
    _clean("a device that could be x16", "max_link_width 16", roots={A: wide_slot}, folders=True),
    _clean("counters that may not be read", "errno 13", roots={A: unreadable}),
    _clean("an interface that is administratively down", "carrier and speed give EINVAL", roots={A: idle_link_state}),
    _clean("no proc in the recording", "a tree of /sys", roots={A: few_files}, folders=True),
    _clean(
        "exclusions that hit no half",
        "NCCL_IB_HCA=^mlx5, NCCL_SOCKET_IFNAME=^docker0,lo",
        roots=trees(unit(nccl_conf="NCCL_IB_HCA=^mlx5\nNCCL_SOCKET_IFNAME=^docker0,lo\n")),
    ),
    _clean(
        "a prefix that names every half",
        "NCCL_IB_HCA=roce",
        roots=trees(unit(1, (0, 1), nccl_conf="NCCL_IB_HCA=roce\nNCCL_SOCKET_IFNAME==enP7s7\n")),
        folders=True,
    ),
    _clean(
        "a port's suffix",
        "NCCL_IB_HCA=rocep1s0f0:1,roceP2p1s0f0:1",
        roots=trees(unit(nccl_conf="NCCL_IB_HCA=rocep1s0f0:1,roceP2p1s0f0:1\n")),
    ),
    _clean(
        "exact names",
        "NCCL_IB_HCA==rocep1s0f1,roceP2p1s0f1",
        roots=trees(unit(1, (1,), nccl_conf="NCCL_IB_HCA==rocep1s0f1,roceP2p1s0f1\nNCCL_IB_GID_INDEX=-1\n")),
    ),
    _clean(
        "little traffic, one half only",
        "400 MB on one, none on the other",
        roots=trees(spoil(unit(sent_words=100_000_000), SECOND, 0, sent_words=0)),
    ),
    _clean(
        "halves not quite even",
        "50 and 41 GB",
        roots=trees(spoil(unit(sent_words=12_500_000_000), SECOND, 0, sent_words=10_250_000_000)),
    ),
    _clean("fresh from boot", "all counters 0", roots=trees(*pair(sent_words=0))),
    _clean("nothing new since before", "--before equal to --root", roots=trees(*pair()), before=trees(*pair())),
    _clean(
        "traffic since before",
        "--before with less of it, folders",
        roots=trees(*pair(sent_words=12_500_000_000)),
        before=trees(*pair()),
        folders=True,
    ),
    _clean("a container with uverbs and memlock", "a tree and 2.28's log", roots=trees(*pair()), logs=logs(cluster(2))),
    _clean(
        "the same NCCL for another CUDA",
        "2.28.9 twice",
        roots=trees(unit(1), unit(2, software={**SOFTWARE, "cuda": "13.1", "driver": "590.48.01"})),
    ),
    _clean("ptxas of CUDA 12.9", "software.json", roots=trees(unit(software={**SOFTWARE, "ptxas": "12.9"}))),
]


def _by_release() -> list[Case]:
    return [
        _clean(f"pair's logs, NCCL {release}", "two logs", logs=logs(cluster(2, release=release)))
        for release in RELEASES
    ]


def _ring_logs(release: str, merged: bool = False) -> dict[str, str]:
    four = ("rocep1s0f0", "rocep1s0f1", "roceP2p1s0f0", "roceP2p1s0f1")
    return logs(cluster(3, release=release, nics=four, merged=merged, environment={"NCCL_IB_MERGE_NICS": "0"}))


crossed_logs = [
    replace(p, nics=nics)
    for p, nics in zip(cluster(2), (("rocep1s0f0", "roceP2p1s0f0"), ("rocep1s0f1", "roceP2p1s0f1")))
]
split = text(cluster(2)[0]) + "".join(
    f"{A}:1234:1260 [0] NCCL INFO ncclCommSplit comm 0xaaab2d005e10 rank 0 nranks 1 cudaDev 0 nvmlDev 0 "
    f"busId f01000 parent 0xaaab1c005e10 splitCount 1 color 0 key 0{gap}- Init {stage}\n"
    for stage, gap in (("START", ""), ("COMPLETE", " "))
)
ended = (
    text(cluster(2)[0])
    + f"{A}:1234:1260 [0] NCCL INFO comm 0xaaab1c005e10 rank 0 nranks 2 cudaDev 0 busId f01000 - Destroy COMPLETE\n"
)
only_net = "".join(line + "\n" for line in text(cluster(2)[0]).splitlines() if "Init " not in line)
plugin = [replace(p, release="2.26.5", network="IBext_v10") for p in cluster(2)]
pinned = {
    "NCCL_IB_HCA": "rocep1s0f0,roceP2p1s0f0",
    "NCCL_IB_GID_INDEX": "3",
    "NCCL_IB_MERGE_NICS": "1",
    "NCCL_SOCKET_IFNAME": "enP7s7",
}
alone = Process(A, 0, 1, "2.28.9", nics=())

LOGS = [
    *_by_release(),
    _clean(
        "pair's logs, merged NICs",
        "one virtual device of both halves",
        logs=logs(cluster(2, release="2.27.7", merged=True)),
    ),
    _clean(
        "pair's logs, merged NICs, 2.30",
        "rail and plane",
        logs=logs(cluster(2, release="2.30.7", merged=True, environment=pinned)),
    ),
    _clean("pair's logs, crossed", "f0 here, f1 there", logs=logs(crossed_logs)),
    _clean("pair's logs in one file", "two processes mixed", logs={"both.log": "".join(logs(cluster(2)).values())}),
    _clean("ring's logs", "four NICs each, unmerged", logs=_ring_logs("2.28.9")),
    _clean("ring's logs, 2.18", "four NICs each", logs=_ring_logs("2.18.5")),
    _clean("four on a switch, logs", "four logs", logs=logs(cluster(4, release="2.30.7"))),
    _clean("an external plugin", "IBext_v10", logs=logs(plugin)),
    _clean("one process alone", "no network needed: nranks 1 over Socket", logs=logs([alone])),
    _clean("one half of a pair's logs", "rank 0 only, complete", logs=logs(cluster(2)[:1])),
    _clean("a communicator split", "ncclCommSplit, `key 0- Init START`", logs={"a.log": split}),
    _clean("a communicator destroyed", "Destroy COMPLETE", logs={"a.log": ended}),
    _clean("without INIT among the subsystems", "no Init line at all", logs={"a.log": only_net}),
    _clean("carriage returns", "a terminal's copy", logs=edited(logs(cluster(2)), "\n", "\r\n")),
    _clean(
        "mpirun's prefixes",
        "`[1,0]<stdout>:` before each line",
        logs={
            n: "".join(f"[1,{i}]<stdout>:{line}\n" for line in t.splitlines())
            for i, (n, t) in enumerate(logs(cluster(2)).items())
        },
    ),
]

H200 = {"utilization_pct": 99.0, "sm_clock_mhz": 1980.0, "power_w": 640.0, "reasons": ("sw_power_cap",)}
lead_in = jsonl(
    samples(20, utilization_pct=0.0, sm_clock_mhz=208.0, power_w=4.1, p_state="P8", reasons=("gpu_idle",)),
    [{**line, "t_s": line["t_s"] + 21} for line in (*samples(120), *sentinels(120))],
)
sparse = jsonl(
    [{k: v for k, v in line.items() if k in ("t_s", "utilization_pct", "sm_clock_mhz")} for line in samples(120)],
    sentinels(120),
)
slightly = jsonl(samples(120), sentinels(120, gemv=223 * 0.94, copy=221 * 0.94, matmul=84 * 0.94))
MEASUREMENTS = [
    _clean("healthy sampling", "GB10 under load", telemetry={A: healthy()}),
    _clean(
        "healthy sampling with its tree",
        "GB10 under load, platform known",
        roots={A: single},
        telemetry={A: healthy()},
        flags=("--platform", "dgx-spark"),
    ),
    _clean("healthy sampling, few fields", "NVML supports three of them", telemetry={A: sparse}),
    _clean("healthy for an hour", "warm and steady", telemetry={A: jsonl(samples(5400, 10), sentinels(5400, 10))}),
    _clean("warm but not throttled", "84 C", telemetry={A: healthy(temperature_c=84.0)}),
    _clean("idle before the load", "20 s at 208 MHz", telemetry={A: lead_in}),
    _clean(
        "H200",
        "4.3 TB/s, at its power limit",
        telemetry={"h200": jsonl(samples(120, **H200), sentinels(120, gemv=4250.0, copy=3900.0, matmul=640.0))},
    ),
    _clean(
        "412 GB/s without a platform",
        "nothing to hold it against",
        telemetry={"box": jsonl(samples(60), sentinels(60, gemv=412.0, copy=400.0))},
    ),
    _clean("one unit 6 % slower", "sentinels of two", telemetry={A: healthy(), B: slightly}),
    _clean(
        "three units, 6 % apart",
        "sentinels of three",
        telemetry={A: healthy(), B: slightly, C: jsonl(samples(120), sentinels(120, gemv=229.0, copy=224.0))},
    ),
    _clean(
        "healthy all-gather of a pair",
        "23.7 GB/s",
        logs={"t.txt": table(ramp(23.7))},
        flags=("--platform", "dgx-spark"),
    ),
    _clean(
        "healthy all-reduce of a pair",
        "22.4 GB/s with the trees",
        roots=trees(*pair()),
        logs={"t.txt": table(ramp(22.4), operation="all_reduce")},
    ),
    _clean(
        "algbw above the link's rate",
        "algbw is twice busbw for all-gather",
        logs={"t.txt": table([(1 << 34, 23.6)])},
        flags=("--platform", "dgx-spark"),
    ),
    _clean(
        "small messages only", "8 to 64 KiB: latency, no bandwidth", logs={"t.txt": table(ramp(23.7, largest=1 << 16))}
    ),
    _clean(
        "healthy ring of three",
        "13.8 GB/s",
        logs={"t.txt": table(ramp(13.86), hosts=(A, B, C), operation="all_reduce")},
    ),
    _clean("healthy four on a switch", "22.9 GB/s", logs={"t.txt": table(ramp(22.9), hosts=(A, B, C, D))}),
    _clean("nccl-tests' JSON", "23.5 GB/s", roots=trees(*pair()), measured=document(ramp(23.5))),
    _clean(
        "a log with its table in one file",
        "as nccl-tests prints both",
        logs={"a.log": text(cluster(2)[0]) + table(ramp(23.7)), "b.log": text(cluster(2)[1])},
    ),
]
CLEAN_CASES = [*MACHINES, *LOGS, *MEASUREMENTS, *OTHERS]
