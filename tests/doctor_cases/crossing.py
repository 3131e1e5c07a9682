"""A fault of one host that shows on another, or under the other name of its own host, is one fault."""

from __future__ import annotations

from dataclasses import replace

from doctor_cases.case import Case, Finding
from doctor_cases.clusters import FIRST, SECOND, A, B, C, logs, ring, spoil, spoil_port, trees, unit
from doctor_cases.host import Host
from doctor_cases.nccl_text import HOSTS, cluster, text
from doctor_cases.sampling import healthy
from doctor_cases.tables import ramp, table
from doctor_cases.two_hosts import down, half_down, idle_half, late, link, measured, narrow, thermal, with_settings
from doctor_cases.unit_faults import hot

BOTH = "rocep1s0f0,roceP2p1s0f0"
NODES = ("node1", "node2")
"""What the machines call themselves, where their recordings have names of their own."""


def without_second_half(host: Host) -> Host:
    return replace(host, functions={key: half for key, half in host.functions.items() if key[0] == FIRST})


def _crossing(x: str, y: str) -> list[Case]:
    """A fault on `x` alone, with what it brings about on `y`."""
    one, other = (unit(HOSTS.index(host) + 1) for host in (x, y))
    waiting = logs([replace(p, completes=False) for p in cluster(2) if p.host == y])
    idle = f"link.one-half on {y}"
    (heat,) = hot("hw_slowdown").values()
    return [
        Case(
            f"crossing: a port down, so a half idles, {x} to {y}",
            "trees with counters",
            down(x, idle),
            roots=trees(half_down(one), idle_half(other)),
        ),
        Case(
            f"crossing: one subnet, so a half idles, {x} to {y}",
            "trees with counters",
            link("halves-one-subnet", x, idle, "subnet"),
            roots=trees(spoil(one, SECOND, 0, address="192.168.100.110/24"), idle_half(other)),
        ),
        Case(
            f"crossing: a half off the bus, so a half idles, {x} to {y}",
            "trees with counters",
            link("nic-asymmetry", x, idle, "unplug"),
            roots=trees(without_second_half(one), idle_half(other)),
        ),
        Case(
            f"crossing: a half left out, so the other's idles, {x} to {y}",
            "trees with counters and nccl.conf",
            link("one-half", x, idle, "NCCL_IB_HCA"),
            roots=trees(with_settings(one, "NCCL_IB_HCA=rocep1s0f0"), idle_half(other)),
        ),
        Case(
            f"crossing: a port down, so sockets, {x} to {y}",
            "trees with the port pinned, and the other's log",
            down(x, f"link.socket-fallback on {y}"),
            roots=trees(spoil_port(with_settings(one, f"NCCL_IB_HCA={BOTH}"), 0, up=False), other),
            logs=logs([p for p in cluster(2, nics=(), environment={"NCCL_IB_HCA": BOTH}) if p.host == y]),
        ),
        Case(
            f"crossing: no such interface, so the other waits, {x} to {y}",
            "trees and the other's log",
            link("interface-wrong", x, f"nccl.init-stuck on {y}", "NCCL_SOCKET_IFNAME"),
            roots=trees(with_settings(one, "NCCL_SOCKET_IFNAME=eth9"), other),
            logs=waiting,
        ),
        Case(
            f"crossing: two lanes, so a slow link, {x} to {y}",
            "trees and a table of both",
            narrow(x, f"link.nic-slow on {A}, {B}"),
            roots=trees(spoil(one, SECOND, 0, width="2"), other),
            logs={"t.txt": table(ramp(3.04))},
        ),
        Case(
            f"other names: a port down, so one half is listed, {x} and {NODES[1]}",
            "trees, and logs whose hosts have other names",
            down(x, f"link.one-half on {NODES[1]}"),
            roots=trees(half_down(one), other),
            logs=_logs_of_nodes(),
        ),
        Case(
            f"other names: 100G, so half of the bandwidth, {x} and {', '.join(NODES)}",
            "trees, and a table whose hosts have other names",
            link("port-slow", x, f"link.one-half on {', '.join(NODES)}", "speed"),
            roots=trees(spoil_port(one, 0, gbit=100), other),
            logs={"t.txt": table(ramp(11.9), hosts=NODES)},
        ),
        Case(
            f"other names: heat, so a slow rank, {x} and {NODES[0]}",
            "samplings, and --measured whose hosts have other names",
            thermal(x, f"unit.slow-rank on {NODES[0]}"),
            telemetry={x: heat, y: healthy()},
            measured=measured(NODES, **late(NODES[0])),
        ),
    ]


def _logs_of_nodes() -> dict[str, str]:
    whole, half = (replace(p, host=node) for p, node in zip(cluster(2), NODES, strict=True))
    return {"0.log": text(whole), "1.log": text(replace(half, nics=("rocep1s0f0",)))}


cut = ring()
cut_ring = [spoil_port(cut[0], 0, up=False), spoil_port(cut[1], 1, up=False), cut[2]]
CABLE_OUT = Case(
    "crossing: a ring's cable out, so the third has more",
    "ports/1/state of three",
    Finding("link.port-down", (A, B), f"link.nic-asymmetry on {C}", r"cable|reseat"),
    roots=trees(*cut_ring),
)
CROSSING = [*_crossing(A, B), *_crossing(B, A), CABLE_OUT]
