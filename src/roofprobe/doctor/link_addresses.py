"""One IPv4 address at two hosts' ends of the link: each answers for it itself, and nothing crosses the cable."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from roofprobe.doctor.case import Case
from roofprobe.doctor.host import Host
from roofprobe.doctor.ports import link_ports
from roofprobe.finding import Finding


def address_duplicate(case: Case) -> Iterator[Finding]:
    """Of more than two hosts it is a warning: they may be two pairs with a cable each and the same addresses."""
    for one, other in combinations(case.hosts, 2):
        mine, theirs = _link_addresses(one), _link_addresses(other)
        shared = [address for address in mine if address in theirs]
        # Hosts that have every address in common are one machine, recorded twice.
        if not shared or _addresses(one) == _addresses(other):
            continue
        told = "; ".join(
            f"{each} is on {mine[each]} of {one.name} and on {theirs[each]} of {other.name}" for each in shared
        )
        yield Finding(
            id="link.address-duplicate",
            severity="fault" if len(case.hosts) == 2 else "warning",
            host=f"{one.name}, {other.name}",
            evidence=f"/proc/net/fib_trie: {told}; expected an address of its own at each end",
            remedy=f"Give {other.name} other addresses in the same subnets: sudo ip addr del OLD dev INTERFACE and sudo"
            " ip addr add NEW/24 dev INTERFACE; keep it in netplan.",
        )


def _link_addresses(host: Host) -> dict[str, str]:
    """Address -> interface, of RDMA ports that are up."""
    return {
        address: each.name
        for port in link_ports(host.fabric)
        if port.up
        for each in port.interfaces
        for address in each.ip_addresses
    }


def _addresses(host: Host) -> set[str]:
    return {address for each in host.fabric.interfaces if not each.loopback for address in each.ip_addresses}
