"""Two faults on two hosts are two, though on one host the second would follow from the first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
import json
from typing import Any

from doctor_cases.case import Case, Finding
from doctor_cases.clusters import FIRST, SECOND, A, B, C, logs, spoil, spoil_port, trees, unit
from doctor_cases.host import Host
from doctor_cases.nccl_text import HOSTS, cluster
from doctor_cases.sampling import healthy, jsonl, samples, sentinels
from doctor_cases.tables import document, ramp, table
from doctor_cases.unit_faults import hot, slow_gemv, starved


def measured(hosts: Sequence[str] = HOSTS[:2], **found: object) -> str:
    """A healthy bandwidth in roofprobe's own JSON, with what it found."""
    return json.dumps({**json.loads(document(ramp(23.0), hosts)), **found})


def late(host: str) -> dict[str, object]:
    return {"latency_findings": [f"slow rank 1 on {host}: arrives 812 us after all the others (mean)"]}


def link(name: str, host: str, evidence: str, remedy: str) -> Finding:
    return Finding(f"link.{name}", (host,), evidence, remedy)


def half_down(host: Host) -> Host:
    return spoil(host, SECOND, 0, up=False)


def idle_half(host: Host) -> Host:
    return spoil(spoil(host, FIRST, 0, sent_words=12_500_000_000), SECOND, 0, sent_words=9)


def with_settings(host: Host, settings: str) -> Host:
    return replace(host, nccl_conf=f"{settings}\n")


def down(host: str, evidence: str = "DOWN") -> Finding:
    return link("port-down", host, evidence, r"cable|reseat")


def one_half(host: str, evidence: str) -> Finding:
    return link("one-half", host, evidence, "NCCL_IB_HCA")


def sockets(host: str, evidence: str) -> Finding:
    return link("socket-fallback", host, evidence, r"memlock|NCCL_IB_DISABLE|NCCL_NET")


def narrow(host: str, evidence: str = r"\b2\b") -> Finding:
    return link("pcie-narrow", host, evidence, "firmware")


def thermal(host: str, evidence: str = "thermal") -> Finding:
    return Finding("unit.thermal", (host,), evidence, r"air|cool")


def slow_rank(host: str, evidence: str) -> Finding:
    return Finding("unit.slow-rank", (host,), evidence, r"alone|supply")


def slow_link(hosts: str) -> Finding:
    return link("nic-slow", hosts, r"3\.0", r"ib_write_bw")


slow_memory = {
    "id": "unit.slow-memory",
    "severity": "fault",
    "evidence": "gemv 88 GB/s and copy 91 GB/s under load",
    "remedy": "Stop every other process that uses the unit's memory.",
}
slow_unit = jsonl(samples(120), sentinels(120, gemv=156.0, copy=154.0, matmul=59.0))


def _independent(x: str, y: str) -> list[Case]:
    """A fault on `x`, and on `y` another that would follow from it if it were there."""
    one, other, third = (unit(HOSTS.index(host) + 1) for host in (x, y, C))
    pinned = with_settings(other, "NCCL_IB_HCA=rocep1s0f0")
    one_pinned = with_settings(one, "NCCL_IB_HCA=rocep1s0f0")
    to_third = {"t.txt": table(ramp(3.04), hosts=(y, C))}
    (heat,), (low_power,), (slow_state,) = (each.values() for each in (hot("sw_thermal_slowdown"), starved, slow_gemv))

    def case(name: str, seen: str, a: Finding, b: Finding, hosts: tuple[Host, ...] = (), **given: Any) -> Case:
        return Case(f"two hosts: {name}, {x} and {y}", seen, a, second=b, roots=trees(*hosts), **given)

    return [
        case(
            "a port down, a half pinned",
            "trees",
            down(x),
            one_half(y, "NCCL_IB_HCA=rocep1s0f0"),
            (half_down(one), pinned),
        ),
        case(
            "a port down, a half pinned and idle",
            "trees with counters",
            down(x),
            one_half(y, "port_xmit_data"),
            (half_down(one), idle_half(pinned)),
        ),
        case(
            "a port down, RDMA turned off",
            "trees",
            down(x),
            sockets(y, "NCCL_IB_DISABLE=1"),
            (half_down(one), with_settings(other, "NCCL_IB_DISABLE=1")),
        ),
        case(
            "a port down, RDMA turned off in a log",
            "trees and the other's log",
            down(x),
            sockets(y, "NCCL_IB_DISABLE=1"),
            (half_down(one), other),
            logs=logs([p for p in cluster(2, nics=(), environment={"NCCL_IB_DISABLE": "1"}) if p.host == y]),
        ),
        case(
            "a port down, no cable",
            "trees of three",
            down(x),
            link("nic-asymmetry", y, r"\b0\b.*\b2\b", "cable"),
            (half_down(one), Host(other.number), third),
        ),
        case(
            "a port at 100G, a half idle",
            "trees with counters",
            link("port-slow", x, "100", "speed"),
            one_half(y, "port_xmit_data"),
            (spoil_port(one, 0, gbit=100), idle_half(other)),
        ),
        case(
            "no such device, memory not locked",
            "trees",
            link("interface-wrong", x, "mlx5", "NCCL_IB_HCA"),
            sockets(y, "65536"),
            (with_settings(one, "NCCL_IB_HCA=mlx5"), replace(other, memlock="65536")),
        ),
        case(
            "a GID of version 1, sockets asked for",
            "trees",
            link("gid-wrong", x, "v1", "GID_INDEX"),
            sockets(y, "NCCL_NET=Socket"),
            (with_settings(one, "NCCL_IB_GID_INDEX=0"), with_settings(other, "NCCL_NET=Socket")),
        ),
        case(
            "two lanes, a slow link beside",
            "trees of three and a table of the two others",
            narrow(x),
            slow_link(f"{y}, {C}"),
            (spoil(one, SECOND, 0, width="2"), other, third),
            logs=to_third,
        ),
        case(
            "a half pinned, a slow link beside",
            "trees of three and a table of the two others",
            one_half(x, "NCCL_IB_HCA=rocep1s0f0"),
            slow_link(f"{y}, {C}"),
            (one_pinned, other, third),
            logs=to_third,
        ),
        case(
            "a port down, half of the bandwidth beside",
            "trees of three and a table of the two others",
            down(x),
            link("one-half", f"{y}, {C}", r"11\.[89]", "NCCL_IB_HCA"),
            (half_down(one), other, third),
            logs={"t.txt": table(ramp(11.9), hosts=(y, C))},
        ),
        case(
            "heat, a slow rank",
            "samplings of both and --measured",
            thermal(x),
            slow_rank(y, "812 us"),
            telemetry={x: heat, y: healthy()},
            measured=measured(**late(y)),
        ),
        case(
            "a slow rank, slow memory",
            "--measured of both",
            slow_rank(x, "812 us"),
            Finding("unit.slow-memory", (y,), "88 GB/s", "memory"),
            measured=measured(**late(x), faults=[{**slow_memory, "host": y}]),
        ),
        case(
            "low power, a slow unit",
            "sentinels of three hosts",
            Finding("unit.low-power-state", (x,), "50[78]", "power"),
            slow_rank(y, "gemv|copy|matmul"),
            telemetry={x: low_power, y: slow_unit, C: healthy()},
        ),
        case(
            "the hidden slow state, a slow rank",
            "samplings of both and --measured",
            Finding("unit.hidden-slow-state", (x,), "6[67]", "power"),
            slow_rank(y, "812 us"),
            telemetry={x: slow_state, y: healthy()},
            measured=measured(**late(y)),
        ),
    ]


TWO_HOSTS = [*_independent(A, B), *_independent(B, A)]
