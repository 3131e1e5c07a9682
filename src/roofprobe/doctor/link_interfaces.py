"""Whether the interfaces and devices that NCCL was told to use are there and can be used."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from roofprobe.doctor.case import Case
from roofprobe.doctor.host import Host
from roofprobe.doctor.link_gid import without_ipv4
from roofprobe.doctor.link_state import ports_down
from roofprobe.doctor.nccl_names import chosen_devices, chosen_interfaces, takes
from roofprobe.doctor.ports import is_down, link_ports
from roofprobe.finding import Finding
from roofprobe.net_interfaces import NetInterface


def interface_wrong(case: Case) -> Iterator[Finding]:
    for host in case.hosts:
        found = [*_sockets(case, host), *_devices(case, host)]
        if found:
            yield Finding(
                id="link.interface-wrong",
                severity="fault",
                host=host.name,
                evidence="; ".join(said for said, _ in found),
                remedy=" ".join(remedy for _, remedy in found),
            )


def _sockets(case: Case, host: Host) -> Iterator[tuple[str, str]]:
    """Evidence and remedy. An interface without an address is link.gid-wrong's, and one that is down
    link.port-down's, where those say so."""
    chosen = chosen_interfaces(case, host)
    interfaces = host.fabric.interfaces
    if chosen is None or not interfaces:
        return
    matched = [each for each in interfaces if chosen.select(each.name)]
    bare = _without_address(host)
    usable = [each.name for each in interfaces if not each.loopback and not _unusable(each, bare)]
    remedy = f"Set NCCL_SOCKET_IFNAME to an interface that is up and has an address ({_some(usable) or 'none is'})."
    if not matched:
        yield (
            f"NCCL_SOCKET_IFNAME={chosen.text} matches no interface; there are {_some(e.name for e in interfaces)}",
            remedy,
        )
        return
    why = [_unusable(each, bare) for each in matched]
    explained = {each.name for port, _ in ports_down(case, host) for each in port.interfaces}
    explained |= {each.name for port in without_ipv4(case, host) for each in port.interfaces}
    if all(why) and not any(each.name in explained for each in matched):
        yield f"NCCL_SOCKET_IFNAME={chosen.text} matches only {_some(filter(None, why))}", remedy


def _unusable(interface: NetInterface, bare: frozenset[str]) -> str | None:
    if is_down(interface):
        return f"{interface.name}, which is down"
    return f"{interface.name}, which has no address" if interface.name in bare else None


def _without_address(host: Host) -> frozenset[str]:
    """Interfaces without an IPv4 or IPv6 address, where the recording holds the kernel's tables."""
    if host.tree.text("/proc/net/fib_trie") is None or host.tree.text("/proc/net/route") is None:
        return frozenset()
    ipv6 = {line.split()[-1] for line in (host.tree.text("/proc/net/if_inet6") or "").splitlines() if line.strip()}
    return frozenset(each.name for each in host.fabric.interfaces if not each.addresses) - ipv6


def _devices(case: Case, host: Host) -> Iterator[tuple[str, str]]:
    """A host without any RDMA device is no fault here: a GB10 without a cable has none."""
    chosen = chosen_devices(case, host)
    ports = link_ports(host.fabric)
    if chosen is not None and ports and not any(takes(chosen, port) for port in ports):
        up = [port.name for port in ports if port.up]
        yield (
            f"NCCL_IB_HCA={chosen.text} matches no device; there are {_some(port.name for port in ports)}",
            f"Set NCCL_IB_HCA={','.join(up)}, or unset it." if up else "Unset NCCL_IB_HCA.",
        )


def _some(names: Iterable[str]) -> str:
    return ", ".join(names)
