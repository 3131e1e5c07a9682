"""GB10's two halves of one QSFP port: 200 Gb/s only where both carry traffic, each on a subnet of its own."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Interface
from itertools import combinations, product

from roofprobe.doctor.case import Case
from roofprobe.doctor.containers import hidden_devices
from roofprobe.doctor.host import Host
from roofprobe.doctor.nccl_names import chosen_devices, takes
from roofprobe.doctor.ports import HALF_DOMAINS, LinkPort, function_of, is_down, link_ports, qsfp_ports
from roofprobe.fabric import Fabric
from roofprobe.finding import Finding, OwnFinding
from roofprobe.net_interfaces import NetInterface

MAX_ADDRESSES = 64
"""Of one interface; more are an attack on the reader's time."""
USED_BYTES = 1_000_000_000
IDLE_SHARE = 0.01
"""Over USED_BYTES on one half and under this share of it on the other, and only one half is used."""


def one_half(case: Case) -> Iterator[Finding]:
    for host in case.hosts:
        reasons: list[tuple[str, str]] = []
        idle: list[tuple[str, str]] = []
        every = ",".join(port.device.name for halves in qsfp_ports(host).values() for port in halves if port.up)
        for halves in qsfp_ports(host).values():
            if len(halves) < len(HALF_DOMAINS):
                reasons += _off_the_bus(host, halves[0])
            elif all(port.up for port in halves):
                told = [*_left_out(case, host, halves, every), *_not_passed(host, halves)]
                reasons += told
                # What is left out or was not passed idles because of that: mending it is enough.
                idle += [(said, told[0][1] if told else remedy) for said, remedy in _idle(host, halves, every)]
        found = [*reasons, *idle]
        if found:
            kind = OwnFinding if reasons else Finding
            yield kind(
                id="link.one-half",
                severity="fault",
                host=host.name,
                evidence="; ".join(said for said, _ in found),
                remedy=" ".join(dict.fromkeys(remedy for _, remedy in found)),
            )


def _left_out(case: Case, host: Host, halves: tuple[LinkPort, ...], every: str) -> Iterator[tuple[str, str]]:
    """Evidence and remedy, here and below."""
    chosen = chosen_devices(case, host)
    taken = [port.name for port in halves if takes(chosen, port)]
    if chosen is not None and len(taken) == 1:
        others = ", ".join(port.name for port in halves if port.name not in taken)
        yield (
            f"NCCL_IB_HCA={chosen.text} takes {taken[0]} and leaves out {others}, though both halves are up",
            f"Set NCCL_IB_HCA={every} on every host.",
        )


def _not_passed(host: Host, halves: tuple[LinkPort, ...]) -> Iterator[tuple[str, str]]:
    hidden = hidden_devices(host.tree)
    lacking = [port for port in halves if port.device.name in hidden]
    if len(lacking) == 1:
        (port,) = lacking
        said = f"/dev/infiniband lacks {hidden[port.device.name]}, the device of {port.name}, and has its other half's"
        yield said, "Start the container with --device=/dev/infiniband, so that it has both halves."


def _idle(host: Host, halves: tuple[LinkPort, ...], every: str) -> Iterator[tuple[str, str]]:
    """By the port counters: since an earlier look where there is one, and else in total."""
    moved = [(found, port) for port in halves if (found := _moved(port, host.before)) is not None]
    if len(moved) < len(halves):
        return
    (least, idle), (most, busy) = sorted(moved, key=lambda each: each[0])
    if most > USED_BYTES and least < IDLE_SHARE * most:
        since = " in total" if host.before is None else " since the earlier recording"
        said = (
            f"{busy.place}/counters: port_xmit_data and port_rcv_data say {most / 1e9:.3g} GB{since}, those of"
            f" {idle.name} {least / 1e9:.3g} GB; expected about as much on both halves"
        )
        yield said, f"Set NCCL_IB_HCA={every} and give each half an address in a subnet of its own."


def _moved(port: LinkPort, before: Fabric | None) -> int | None:
    """Bytes sent and received; None where they are not known or were reset in between."""
    sent, received = port.port.sent_bytes, port.port.received_bytes
    if sent is None or received is None:
        return None
    if before is None:
        return sent + received
    earlier = next((each.port for each in link_ports(before) if each.name == port.name), None)
    if earlier is None or earlier.sent_bytes is None or earlier.received_bytes is None:
        return None
    if sent < earlier.sent_bytes or received < earlier.received_bytes:
        return None
    return sent - earlier.sent_bytes + received - earlier.received_bytes


def _off_the_bus(host: Host, port: LinkPort) -> Iterator[tuple[str, str]]:
    """One function of a port is there and the other is not, in a recording that lists the PCI bus."""
    domain, place = function_of(port.device) or ("", "")
    missing = f"{next(d for d in HALF_DOMAINS if d != domain)}:{place}"
    on_bus = host.tree.children("/sys/bus/pci/devices")
    if port.up and f"{domain}:{place}" in on_bus and missing not in on_bus:
        remedy = "Shut the unit down, unplug its supply for a minute, start it again, and run sudo fwupdmgr update."
        said = f"/sys/bus/pci/devices holds {domain}:{place} ({port.name}, up) and lacks {missing}, its other half"
        yield said, remedy


def halves_one_subnet(case: Case) -> Iterator[Finding]:
    """Of two interfaces of the link that are up: the kernel answers for both from one of them."""
    for host in case.hosts:
        ports = [port for halves in qsfp_ports(host).values() for port in halves if not port.down]
        found = []
        for one, other in combinations(ports, 2):
            shared = _shared(one, other)
            if shared:
                found.append(shared)
        if found:
            yield Finding(
                id="link.halves-one-subnet",
                severity="fault",
                host=host.name,
                evidence=f"/proc/net/route and /proc/net/fib_trie: {'; '.join(found)}; expected a subnet for each",
                remedy="Give each half an address in a subnet of its own, the same two at both ends of the cable: sudo"
                " ip addr del OLD dev INTERFACE and sudo ip addr add NEW/24 dev INTERFACE; keep it in netplan.",
            )


def _shared(one: LinkPort, other: LinkPort) -> str | None:
    for first in one.interfaces:
        for second in other.interfaces:
            if first.name != second.name and not is_down(first) and not is_down(second):
                for subnet, beside in product(_subnets(first), _subnets(second)):
                    if subnet.network.overlaps(beside.network):
                        held = ", ".join(dict.fromkeys((*first.addresses, *second.addresses)))
                        return f"{first.name} is in {subnet.network} and {second.name} in {beside.network} ({held})"
    return None


def _subnets(interface: NetInterface) -> list[IPv4Interface]:
    """Its addresses; a route without an address in it, as zeroconf adds to every interface, is no subnet."""
    return [IPv4Interface(address) for address in interface.addresses[:MAX_ADDRESSES]]
