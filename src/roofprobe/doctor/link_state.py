"""Ports that are down where they should be up, or up and slower than the platform says, and narrowed PCIe links."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
import re

from roofprobe.doctor.case import Case
from roofprobe.doctor.host import Host
from roofprobe.doctor.nccl_names import Names, chosen_devices
from roofprobe.doctor.peers import alike
from roofprobe.doctor.ports import HALF_DOMAINS, LinkPort, is_down, link_of, link_ports, qsfp_ports
from roofprobe.finding import Finding
from roofprobe.rdma_devices import ROOT

GB10_PCIE_GT_PER_S = 32.0
GB10_PCIE_LANES = 4
"""Each function of GB10's ConnectX-7: PCIe Gen5 x4. `max_link_width` reads 4 or 16 there and says nothing."""


def port_down(case: Case) -> Iterator[Finding]:
    for host in case.hosts:
        found = ports_down(case, host)
        if found:
            interfaces = dict.fromkeys(each.name for port, _ in found for each in port.interfaces)
            remedy = "Reseat the cable at both ends"
            remedy += f" and bring the interface up ({_all_up(interfaces)})." if interfaces else "."
            if any("NCCL_IB_HCA" in why for _, why in found):
                remedy += " If no cable belongs there, take the port out of NCCL_IB_HCA."
            yield Finding(
                id="link.port-down",
                severity="fault",
                host=host.name,
                evidence="; ".join(f"{port.why_down}, while {why}" for port, why in found),
                remedy=remedy,
            )


def _all_up(interfaces: Iterable[str]) -> str:
    return "; ".join(f"sudo ip link set {name} up" for name in interfaces)


def ports_down(case: Case, host: Host) -> tuple[tuple[LinkPort, str], ...]:
    """The ports whose being down matters, each with the reason. A port without a cable does not."""
    down = [port for port in link_ports(host.fabric) if port.down]
    if not down:
        return ()
    # Where several hold, the last one says most.
    reasons = {**_pinned(host, chosen_devices(case, host)), **_up_at_peers(case, host), **_twins_up(host)}
    return tuple((port, reasons[port.name]) for port in down if port.name in reasons)


def _twins_up(host: Host) -> dict[str, str]:
    """Port -> the reason, where the other half of the same QSFP port is up."""
    pairs = [halves for halves in qsfp_ports(host).values() if len(halves) == len(HALF_DOMAINS)]
    return {
        one.name: f"{other.name}, the other half of the same QSFP port, is up"
        for halves in pairs
        for one, other in (halves, reversed(halves))
        if other.up
    }


def _up_at_peers(case: Case, host: Host) -> dict[str, str]:
    """Of peers with more ports up: with as many, the cable is in another port here, which is as good."""
    groups = [group for group in alike(case.hosts) if any(each is host for each in group)]
    return {
        port.name: f"the same port of {peer.name} is up"
        for group in groups
        for peer in group
        if _cables(peer) > _cables(host)
        for port in link_ports(peer.fabric)
        if port.up
    }


def _cables(host: Host) -> int:
    """QSFP ports that are up in any half; elsewhere RDMA ports that are up."""
    halves = qsfp_ports(host).values() or [(port,) for port in link_ports(host.fabric)]
    return sum(any(port.up for port in each) for each in halves)


def _pinned(host: Host, chosen: Names | None) -> dict[str, str]:
    """Ports that NCCL_IB_HCA asks for by their whole name, or by a prefix that no port which is up satisfies."""
    found: dict[str, str] = {}
    ports = link_ports(host.fabric)
    if chosen is None or chosen.exclude:
        return found
    for entry in chosen.entries:
        matched = [port for port in ports if chosen.matches(entry, port.device.name, port.port.number)]
        satisfied = any(port.up for port in matched)
        for port in matched:
            if entry[0] == port.device.name or not satisfied:
                found[port.name] = f"NCCL_IB_HCA={chosen.text} asks for it"
    return found


def port_slow(case: Case) -> Iterator[Finding]:
    """Of GB10's link. A port that is down still gives a rate, 40 Gb/s, so only ports that are up count."""
    for host in case.hosts:
        link = link_of(host)
        if link is None:
            continue
        expected = link.port_gbit_per_s.value
        halves = [port for each in qsfp_ports(host).values() for port in each if port.up]
        found = [said for port in halves for said in _slow(port, expected)]
        if found:
            yield Finding(
                id="link.port-slow",
                severity="fault",
                host=host.name,
                evidence=f"{'; '.join(found)}; expected {expected:g} Gb/s ({link.port_gbit_per_s.source})",
                remedy=f"Use a cable and a switch port that carry {expected:g} Gb/s, and set that speed where a switch"
                f" or an adapter negotiated less (sudo ethtool -s INTERFACE speed {expected * 1000:.0f} autoneg off).",
            )


def _slow(port: LinkPort, expected: float) -> Iterator[str]:
    rate = port.port.rate_gbit_per_s
    if rate is not None and rate < expected:
        yield f"{port.place}/rate reads {rate:g} Gb/sec"
    for each in port.interfaces:
        if each.speed_gbit_per_s is not None and each.speed_gbit_per_s < expected and not is_down(each):
            yield f"/sys/class/net/{each.name}/speed reads {each.speed_gbit_per_s * 1000:.0f}"


def pcie_narrow(case: Case) -> Iterator[Finding]:
    """Of GB10's ConnectX-7 alone: many boards give other machines' devices fewer lanes than the device could use."""
    for host in case.hosts:
        found = []
        for port in (each for halves in qsfp_ports(host).values() for each in halves):
            at = f"{ROOT}/{port.device.name}/device"
            speed = re.match(r"([0-9]{1,3}(?:\.[0-9]+)?) GT/s", port.device.pcie_speed or "")
            if speed and float(speed[1]) < GB10_PCIE_GT_PER_S:
                found.append(f"{at}/current_link_speed reads {port.device.pcie_speed}")
            if port.device.pcie_width is not None and 0 < port.device.pcie_width < GB10_PCIE_LANES:
                found.append(f"{at}/current_link_width reads {port.device.pcie_width}")
        if found:
            yield Finding(
                id="link.pcie-narrow",
                severity="fault",
                host=host.name,
                evidence=f"{'; '.join(found)}; expected {GB10_PCIE_GT_PER_S:.1f} GT/s PCIe (Gen5) and width"
                f" {GB10_PCIE_LANES} for each half",
                remedy="Update the unit's firmware and BIOS (sudo fwupdmgr refresh && sudo fwupdmgr update), then shut"
                " it down, unplug it for a minute and start it again.",
            )
