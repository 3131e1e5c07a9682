"""Network interfaces as Linux describes them: state, rate, addresses, and how many bytes went through.

Rates are in Gb/s, as links are named. Every fact that the kernel does not tell is None: `speed` and `carrier` answer
EINVAL while an interface is down, and a virtual interface has no speed.

Sources: Linux, Documentation/ABI/testing/sysfs-class-net; proc(5).
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import AddressValueError, IPv4Address, IPv4Interface, IPv4Network, NetmaskValueError
import re

import msgspec

from roofprobe.tree import Tree

LOOPBACK_TYPE = 772
"""ARPHRD_LOOPBACK of linux/if_arp.h."""
POINT_TO_POINT_PREFIX = 31
"""From this length on every address of a network is a host's (RFC 3021)."""
_LOOPBACK_NETWORK = IPv4Network("127.0.0.0/8")
_ROUTE_GATEWAY = 0x2


class NetInterface(msgspec.Struct, frozen=True, kw_only=True):
    """One interface of one network namespace."""

    name: str
    operstate: str | None
    """``up``, ``down``, ``unknown`` (loopback, most tunnels), ``lowerlayerdown`` …"""
    carrier: bool | None
    speed_gbit_per_s: float | None
    mtu: int | None
    loopback: bool
    driver: str | None
    addresses: tuple[str, ...]
    """IPv4 addresses with their prefix, ``10.77.0.1/24``. The kernel's tables give an address a network, not an
    interface: of two interfaces on one network, both have both."""
    networks: tuple[str, ...]
    """IPv4 networks that are reached through this interface without a gateway."""
    sent_bytes: int | None
    received_bytes: int | None

    @property
    def ip_addresses(self) -> tuple[str, ...]:
        """The addresses without their prefix."""
        return tuple(address.partition("/")[0] for address in self.addresses)


def read_interfaces(tree: Tree) -> tuple[NetInterface, ...]:
    """Every interface, by name.

    The names come from /proc/net/dev, which is of the reading process' network namespace, and else from
    /sys/class/net, which is of the namespace that /sys was mounted in.
    """
    moved = interface_bytes(tree)
    names = [name for name, _ in _proc_net_dev(tree)] or tree.children("/sys/class/net")
    networks = _networks(tree)
    local = _local_addresses(tree)
    return tuple(_interface(tree, name, moved.get(name), networks.get(name, ()), local) for name in sorted(names))


def interface_bytes(tree: Tree) -> dict[str, tuple[int, int]]:
    """Interface -> (bytes sent, bytes received) since it was made; cheap enough to read before and after anything."""
    found = dict(_proc_net_dev(tree))
    if found:
        return found
    for name in tree.children("/sys/class/net"):
        at = f"/sys/class/net/{name}/statistics"
        sent, received = tree.number(f"{at}/tx_bytes"), tree.number(f"{at}/rx_bytes")
        if sent is not None and received is not None:
            found[name] = sent, received
    return found


def _interface(
    tree: Tree, name: str, moved: tuple[int, int] | None, networks: tuple[IPv4Network, ...], local: list[IPv4Address]
) -> NetInterface:
    at = f"/sys/class/net/{name}"
    speed = tree.number(f"{at}/speed")
    carrier = tree.number(f"{at}/carrier")
    loopback = name == "lo" or tree.number(f"{at}/type") == LOOPBACK_TYPE
    if loopback:
        networks = (_LOOPBACK_NETWORK,)
    addresses = [
        str(IPv4Interface((address, network.prefixlen)))
        for network in networks
        for address in local
        if address in network and (address != network.network_address or network.prefixlen >= POINT_TO_POINT_PREFIX)
    ]
    driver = tree.link(f"{at}/device/driver")
    return NetInterface(
        name=name,
        operstate=tree.text(f"{at}/operstate"),
        carrier=None if carrier is None else carrier == 1,
        speed_gbit_per_s=speed / 1000 if speed is not None and speed > 0 else None,
        mtu=tree.number(f"{at}/mtu"),
        loopback=loopback,
        driver=driver.rpartition("/")[2] if driver else None,
        addresses=tuple(addresses),
        networks=tuple(map(str, networks)),
        sent_bytes=moved[0] if moved else tree.number(f"{at}/statistics/tx_bytes"),
        received_bytes=moved[1] if moved else tree.number(f"{at}/statistics/rx_bytes"),
    )


def _proc_net_dev(tree: Tree) -> Iterator[tuple[str, tuple[int, int]]]:
    for line in (tree.text("/proc/net/dev") or "").splitlines():
        name, colon, rest = line.partition(":")
        fields = rest.split()
        if colon and len(fields) >= 9 and _counts(fields[0]) and _counts(fields[8]):
            yield name.strip(), (int(fields[8]), int(fields[0]))


def _counts(field: str) -> bool:
    return field.isascii() and field.isdigit() and len(field) <= 20


def _networks(tree: Tree) -> dict[str, tuple[IPv4Network, ...]]:
    """Interface -> the networks of its routes without a gateway, narrowest first."""
    found: dict[str, set[IPv4Network]] = {}
    for line in (tree.text("/proc/net/route") or "").splitlines()[1:]:
        fields = line.split()
        try:
            destination, flags, mask = (int(fields[i], 16) for i in (1, 3, 7))
            network = IPv4Network((_little_endian(destination), str(_little_endian(mask))))
        except (IndexError, ValueError, AddressValueError, NetmaskValueError):
            continue
        if not flags & _ROUTE_GATEWAY and network.prefixlen:
            found.setdefault(fields[0], set()).add(network)
    return {name: tuple(sorted(each, key=lambda n: (-n.prefixlen, n))) for name, each in found.items()}


def _little_endian(value: int) -> IPv4Address:
    return IPv4Address(int.from_bytes((value & 0xFFFFFFFF).to_bytes(4, "little"), "big"))


def _local_addresses(tree: Tree) -> list[IPv4Address]:
    """The addresses of this host: a leaf of /proc/net/fib_trie whose line says ``/32 host LOCAL``."""
    found = set()
    leaf = None
    for line in (tree.text("/proc/net/fib_trie") or "").splitlines():
        named = re.fullmatch(r"\s*\|--\s+([0-9.]{7,15})\s*", line)
        if named:
            leaf = named[1]
        elif leaf and line.split() == ["/32", "host", "LOCAL"]:
            try:
                found.add(IPv4Address(leaf))
            except AddressValueError:
                leaf = None
    return sorted(found)
