"""What a measured bus bandwidth says of GB10's link: its ceiling, one half's, and what only a slow NIC explains.

    25      GB/s  nominal, 200 Gb/s; more is not of the link
    21.875        NVIDIA's pass mark of a pair
    12.25         98 Gb/s, at which one half tops out
    10            NVIDIA's pass mark of a ring; a slow NIC gives 1 to 3 GB/s

Only a large message between hosts measures the link, and only NCCL's: gloo's is bound by the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator

from roofprobe.ceiling import Link, find_platform
from roofprobe.doctor.case import Case, MeasuredLink
from roofprobe.doctor.nccl_table import LARGE_BYTES
from roofprobe.doctor.ports import qsfp_ports
from roofprobe.finding import Finding, OwnFinding
from roofprobe.units import size

PAIR_GB_PER_S = 21.875
RING_GB_PER_S = 10.0
ONE_HALF_GB_PER_S = 13.5
"""A tenth above one half's 12.25: more than that has used both."""
_GB10 = "NVIDIA GB10"


def measured_link(case: Case) -> Iterator[Finding]:
    """The best table of the link is what it can give; slower ones beside it had other reasons."""
    links = [link for link in case.links if link.busbw_gb_per_s > 0 and _between_hosts(case, link)]
    port = _port(case, links)
    if port is None:
        return
    nominal = port.port_gbit_per_s.value / 8
    over = [link for link in links if link.busbw_gb_per_s > nominal]
    if over:
        worst = max(over, key=lambda link: link.busbw_gb_per_s)
        yield Finding(
            id="reading.implausible",
            severity="fault",
            host=_hosts(case, worst),
            evidence=f"{_told(worst)} is above the port's nominal {nominal:g} GB/s: part of it did not cross the link,"
            " or the bytes were counted wrong",
            remedy="Discard the figure and measure again with one rank a host; check the transport (NCCL_DEBUG=INFO"
            " shows via NET/IB/): roofprobe collectives.",
        )
    large = [link for link in links if link not in over and link.bytes >= LARGE_BYTES]
    if large:
        yield from _slow(case, max(large, key=lambda link: link.busbw_gb_per_s))


def _slow(case: Case, best: MeasuredLink) -> Iterator[Finding]:
    hosts = _host_count(case, best)
    mark = PAIR_GB_PER_S if hosts == 2 else RING_GB_PER_S
    rate = best.busbw_gb_per_s
    if rate >= mark:
        return
    over_sockets = any(process.network == "Socket" for process in case.processes)
    half = RING_GB_PER_S <= rate < ONE_HALF_GB_PER_S and not over_sockets
    if half:
        why = "which is what one half carries, at most 98 Gb/s: the other half is not used"
        remedy = (
            "Use both halves: NCCL_IB_HCA=rocep1s0f0,roceP2p1s0f0 (f1 for port 1), each up with MTU 9000 and on a"
            " subnet of its own; roofprobe doctor on each host shows which is missing."
        )
    else:
        why = f"expected at least {mark:g} GB/s, NVIDIA's pass mark for {hosts} hosts"
        remedy = (
            "Measure each half without NCCL (ib_write_bw -d DEVICE on both hosts); where one is slow, reseat or"
            " exchange the cable, shut both units down and unplug them for a minute, and update the adapter's firmware."
        )
    yield OwnFinding(
        id="link.one-half" if half else "link.nic-slow",
        severity="fault" if rate < ONE_HALF_GB_PER_S else "warning",
        host=_hosts(case, best),
        evidence=f"{_told(best)}, {why}",
        remedy=remedy,
    )


def _told(link: MeasuredLink) -> str:
    of = f" of {link.collective}" if link.collective else ""
    return f"{link.source}: the best busbw{of} is {link.busbw_gb_per_s:.2f} GB/s at {size(link.bytes)}"


def _port(case: Case, links: list[MeasuredLink]) -> Link | None:
    """GB10's port, where anything shows that these are GB10 units: a platform, a GPU's name, or the NICs'."""
    hosts = {name for link in links for name in link.hosts} | {process.host for process in case.processes}
    hosts |= {host.name for host in case.hosts}
    for platform in (case.platform, *(case.platform_of(name) for name in sorted(hosts))):
        if platform is not None:
            return platform.link if platform.is_gb10 else None
    listed = [name for process in case.processes for nic in process.nics.get("IB", ()) for name in nic]
    known = (
        any(_GB10 in (link.gpu or "") for link in links)
        or any(host.is_gb10 or qsfp_ports(host) for host in case.hosts)
        or any(name.startswith("roceP2p1s0f") for name in listed)
    )
    gb10 = find_platform(_GB10, None) if known else None
    return gb10.link if gb10 is not None else None


def _between_hosts(case: Case, link: MeasuredLink) -> bool:
    """Whether the figure is of a link between hosts, and not of one host or of gloo."""
    if link.transport is not None and not link.transport.startswith("NCCL"):
        return False
    return _host_count(case, link) > 1


def _host_count(case: Case, link: MeasuredLink) -> int:
    """Each GB10 has one GPU, so where no host is named its ranks are."""
    if link.hosts:
        return len(link.hosts)
    processes = case.processes
    ranks = max((process.ranks or 0 for process in processes), default=0)
    return max(len({process.host for process in processes}), ranks, len(case.hosts)) or 2


def _hosts(case: Case, link: MeasuredLink) -> str:
    named = link.hosts or tuple(dict.fromkeys(process.host for process in case.processes))
    return ", ".join(named or tuple(host.name for host in case.hosts)) or link.source
