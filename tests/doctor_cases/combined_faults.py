"""A cause with its consequences beside it is one fault; and the same faults in recordings of other forms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
import json
from typing import Any

from doctor_cases.case import Case, Finding
from doctor_cases.clusters import FIRST, SECOND, A, B, C, either, logs, pair, spoil, spoil_port, switch, trees, unit
from doctor_cases.host import SOFTWARE
from doctor_cases.nccl_text import Process, cluster, text, until_bootstrap
from doctor_cases.recorded import Tree, bare, put, without_links
from doctor_cases.sampling import healthy, jsonl, samples, sentinels
from doctor_cases.tables import ramp, table
from doctor_cases.unit_faults import hot, slow_gemv, starved

RESEAT = r"cable|reseat|ip link set|up"
PINNED = "NCCL_IB_HCA=rocep1s0f0,roceP2p1s0f0\n"
HALF_IN_USE = "NCCL_IB_HCA|both halves|roceP2p1s0f"


def link(name: str, hosts: tuple[str, ...], evidence: str, remedy: str) -> Finding:
    return Finding(f"link.{name}", hosts, evidence, remedy)


cable_out = spoil_port(unit(1, (0,), nccl_conf=PINNED), 0, up=False)
sockets = cluster(2, nics=())
one_subnet = spoil(unit(1, sent_words=12_500_000_000), SECOND, 0, address="192.168.100.110/24", sent_words=20_000)
no_interface = until_bootstrap(
    Process(B, 1, 2, environment={"NCCL_SOCKET_IFNAME": "enp9s9"}),
    "bootstrap.cc:126",
    "Bootstrap : no socket interface found",
)
waiting = replace(cluster(2)[0], completes=False)
hung = [replace(p, completes=False) for p in cluster(2)]
other_library = trees(unit(1), unit(2, software={**SOFTWARE, "nccl_loaded": "2.27.7"}))
half_table = {"t.txt": table(ramp(11.9))}
both_logs = logs(cluster(2))

CAUSES = [
    Case(
        "cause: a port is down, NCCL takes sockets",
        "a tree with the port pinned and both logs",
        link("port-down", (A,), r"DOWN|rocep1s0f0", RESEAT),
        roots={**trees(cable_out, unit(2))},
        logs=logs(sockets),
    ),
    Case(
        "cause: 100G, so half of the bandwidth",
        "trees, logs and a table of 11.9 GB/s",
        link("port-slow", either(A, B), r"100", r"autoneg|speed|switch|cable"),
        roots=trees(*[spoil_port(h, 0, gbit=100) for h in pair()]),
        logs={**both_logs, **half_table},
    ),
    Case(
        "cause: two lanes, so three quarters of it",
        "trees and a table of 15.5 GB/s",
        link("pcie-narrow", (B,), r"\b2\b", r"firmware|BIOS|fwupdmgr"),
        roots=trees(unit(1), spoil(unit(2), SECOND, 0, width="2")),
        logs={"t.txt": table(ramp(15.5))},
    ),
    Case(
        "cause: one subnet, so one half is used",
        "addresses and port counters",
        link("halves-one-subnet", (A,), r"192\.168\.100", r"subnet|address"),
        roots=trees(one_subnet),
    ),
    Case(
        "cause: one half pinned, so half of the bandwidth",
        "trees with counters, logs and a table",
        link("one-half", either(A, B), r"rocep1s0f0", HALF_IN_USE),
        roots=trees(
            *(
                spoil(h, SECOND, 0, sent_words=0)
                for h in pair(sent_words=12_500_000_000, nccl_conf="NCCL_IB_HCA=rocep1s0f0\n")
            )
        ),
        logs={**logs(cluster(2, nics=("rocep1s0f0",), environment={"NCCL_IB_HCA": "rocep1s0f0"})), **half_table},
    ),
    Case(
        "cause: no interface here, so the other waits",
        "two logs",
        link("interface-wrong", (B,), r"enp9s9|no socket", r"NCCL_SOCKET_IFNAME"),
        logs={"a.log": text(waiting), "b.log": no_interface},
    ),
    Case(
        "cause: versions differ, so both wait",
        "software.json and both logs",
        Finding("nccl.version-mismatch", either(A, B), r"2\.27\.7", r"same|install|one version"),
        roots=other_library,
        logs=logs(hung),
    ),
    Case(
        "cause: sockets on one side only",
        "one log with IB, one with Socket",
        link("socket-fallback", (B,), r"Socket|No device", r"uverbs|/dev/infiniband|memlock|NCCL_IB"),
        logs=logs([waiting, replace(sockets[1], completes=False)]),
    ),
    Case(
        "cause: low power, so a slow unit",
        "sentinels of two hosts",
        Finding("unit.low-power-state", (A,), r"50[78]", r"power|unplug"),
        telemetry={**starved, B: healthy()},
    ),
    Case(
        "cause: heat, so a slow unit",
        "sentinels of three hosts",
        Finding("unit.thermal", (A,), r"thermal|9[0-4]", r"air|cool|dust|fan|vent"),
        telemetry={**hot("sw_thermal_slowdown"), B: healthy(), C: healthy()},
    ),
    Case(
        "cause: the hidden slow state, so a slow unit",
        "sentinels of two hosts",
        Finding("unit.hidden-slow-state", (A,), r"6[67]", r"unplug|power|restart"),
        telemetry={**slow_gemv, B: healthy()},
    ),
    Case(
        "low power: samples alone",
        "no sentinel",
        Finding("unit.low-power-state", (A,), r"50[78]", r"power|unplug"),
        telemetry={A: jsonl(samples(90, sm_clock_mhz=507.0, power_w=14.8))},
    ),
    Case(
        "inconclusive: one of two",
        "one host half idle",
        Finding("reading.inconclusive", (B,), r"5[2-9]|60", r"load|again|repeat|sustain", "warning"),
        3,
        telemetry={A: healthy(), B: jsonl(samples(120, utilization_pct=55.0), sentinels(120))},
    ),
    Case(
        "slow NIC: a ring of three",
        "a table of 1.3 GB/s",
        link(
            "nic-slow",
            (*either(A, B, C), "spark-a, spark-b, spark-c"),
            r"1\.[23]|10\.",
            r"power|cold|unplug|reseat|firmware",
        ),
        roots=trees(*switch(3)),
        logs={"t.txt": table(ramp(1.3), hosts=(A, B, C), operation="all_reduce")},
    ),
    Case(
        "one half: the first of either port",
        "port counters of two cables",
        link("one-half", (A,), r"port_xmit_data|50", HALF_IN_USE),
        roots=trees(
            spoil(spoil(unit(1, (0, 1), sent_words=12_500_000_000), SECOND, 0, sent_words=0), SECOND, 1, sent_words=0)
        ),
    ),
]

MORE_SOCKETS = r"uverbs|ib_uverbs|/dev/infiniband|memlock"
small_lock = trees(unit(memlock="65536"))
no_class = trees(unit(verbs=False))
no_class[A]["/sys/class/infiniband_verbs"] = {"dir": 1}
no_nodes = trees(unit())
put(no_nodes[A], "/dev/null", "")
CONTAINERS = [
    Case(
        "sockets: 64 KiB may be locked",
        "proc/self/limits",
        link("socket-fallback", (A,), r"65536|64", MORE_SOCKETS),
        roots=small_lock,
        folders=True,
    ),
    Case(
        "sockets: no uverbs device",
        "an empty sys/class/infiniband_verbs",
        link("socket-fallback", (A,), r"uverbs|infiniband_verbs", MORE_SOCKETS),
        roots=no_class,
    ),
    Case(
        "sockets: no device nodes",
        "dev without infiniband",
        link("socket-fallback", (A,), r"/dev/infiniband", MORE_SOCKETS),
        roots=no_nodes,
    ),
    Case(
        "flapping: NCCL saw it",
        "2.30's asynchronous event",
        link("flapping", (A,), r"port error", r"cable|reseat"),
        logs={
            "a.log": text(
                replace(
                    cluster(2, release="2.30.7")[0],
                    warnings=(
                        ("net_ib/common.cc:180", "NET/IB : rocep1s0f0:1 Got non-fatal async event: port error(10)"),
                    ),
                )
            )
        },
    ),
]

RAY = "(EngineCore_DP0 pid=2301) (RayWorkerWrapper pid=2981, ip=169.254.28.198) "


def _prefixed(texts: dict[str, str], prefix: str) -> dict[str, str]:
    return {name: "".join(f"{prefix}{line}\n" for line in t.splitlines()) for name, t in texts.items()}


def _formed(form: Callable[[Tree], Tree], hosts: dict[str, Tree]) -> dict[str, Tree]:
    return {name: form(tree) for name, tree in hosts.items()}


down = spoil(unit(), SECOND, 0, up=False)
PTXAS = Finding("software.ptxas-too-old", (A,), r"12\.8", r"TRITON_PTXAS_PATH")


def _form_cases() -> list[Case]:
    found = []
    forms: tuple[tuple[str, Callable[[Tree], Tree]], ...] = (("without links", without_links), ("bare", bare))
    for label, form in forms:
        for folders in (False, True):
            words: dict[str, Any] = {"folders": folders}
            kind = f"{label}, {'folder' if folders else 'JSON'}"
            found += [
                Case(
                    f"port down: {kind}",
                    "ports/1/state",
                    link("port-down", (A,), r"DOWN", RESEAT),
                    roots=_formed(form, trees(down)),
                    **words,
                ),
                Case(
                    f"port slow: {kind}",
                    "rate",
                    link("port-slow", (B,), r"100", r"autoneg|speed|switch|cable"),
                    roots=_formed(form, trees(unit(1), spoil_port(unit(2), 0, gbit=100))),
                    **words,
                ),
                Case(
                    f"MTU: {kind}",
                    "net/IF/mtu",
                    link("mtu-mismatch", either(A, B), r"9000.*1500|1500.*9000", r"mtu"),
                    roots=_formed(form, trees(unit(1), spoil_port(unit(2), 0, mtu=1500))),
                    **words,
                ),
                Case(
                    f"one half: pinned, {kind}",
                    "etc/nccl.conf",
                    link("one-half", (A,), r"rocep1", HALF_IN_USE),
                    roots=_formed(form, trees(unit(nccl_conf="NCCL_IB_HCA=rocep1\n"))),
                    **words,
                ),
            ]
    return found


FORMS = [
    *_form_cases(),
    Case(
        "sockets: Ray's prefixes",
        "2.18's log as vLLM shows it",
        link("socket-fallback", either(A, B), r"Socket|No device", r"uverbs|/dev/infiniband|memlock|NCCL_IB"),
        logs=_prefixed(logs(cluster(2, release="2.18.5", nics=())), RAY),
    ),
    Case(
        "init stuck: docker compose's prefixes",
        "`worker-1  | ` before each line",
        Finding("nccl.init-stuck", either(A, B), r"Init|rank", r"firewall|reach|interface|start|rank"),
        logs=_prefixed(logs(hung), "worker-1  | "),
    ),
    Case(
        "ptxas: software.json named without a slash",
        "a JSON recording",
        PTXAS,
        roots={
            A: {
                **trees(unit(software=None))[A],
                "software.json": {"data": json.dumps({**SOFTWARE, "ptxas": "12.8"})},
            }
        },
    ),
    Case(
        "GID: without links",
        "gid_attrs/types",
        link("gid-wrong", (A,), r"\b0\b", r"NCCL_IB_GID_INDEX"),
        roots=_formed(without_links, trees(unit(nccl_conf="NCCL_IB_GID_INDEX=0\n"))),
        folders=True,
    ),
    Case(
        "PCIe narrow: without links",
        "device/current_link_width",
        link("pcie-narrow", (A,), r"\b2\b", r"firmware|BIOS|fwupdmgr"),
        roots=_formed(without_links, trees(spoil(unit(), SECOND, 0, width="2"))),
        folders=True,
    ),
    Case(
        "one half: counters without links",
        "port counters",
        link("one-half", (A,), r"port_xmit_data|1\.2|1200", HALF_IN_USE),
        roots=_formed(without_links, trees(spoil(unit(sent_words=300_000_000), FIRST, 0, sent_words=9))),
    ),
]
COMBINED = [*CAUSES, *CONTAINERS, *FORMS]
