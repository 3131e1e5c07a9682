"""proc/net/route and proc/net/fib_trie as Linux prints them for a set of interface addresses."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Interface

Leaves = dict[int, list[str]]


def route_table(addresses: Mapping[str, str]) -> str:
    """One connected route an interface; destinations and masks are little-endian hexadecimal."""
    lines = ["Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT"]
    for name, address in addresses.items():
        network = IPv4Interface(address).network
        destination, mask = (_swapped(a) for a in (network.network_address, network.netmask))
        lines.append(f"{name}\t{destination}\t00000000\t0001\t0\t0\t100\t{mask}\t0\t0\t0")
    return "\n".join(f"{line:<127}" for line in lines) + "\n"


def _swapped(address: IPv4Address) -> str:
    return address.packed[::-1].hex().upper()


def fib_trie(addresses: Mapping[str, str]) -> str:
    """Main and Local, which are one trie while no rule separates them."""
    leaves: Leaves = {
        int(IPv4Address("127.0.0.0")): ["/8 host LOCAL"],
        int(IPv4Address("127.0.0.1")): ["/32 host LOCAL"],
    }
    leaves[int(IPv4Address("127.255.255.255"))] = ["/32 link BROADCAST"]
    for address in addresses.values():
        interface = IPv4Interface(address)
        network = interface.network
        unicast = f"/{network.prefixlen} link UNICAST"
        if unicast not in (found := leaves.setdefault(int(network.network_address), [])):
            found.append(unicast)
        leaves.setdefault(int(interface.ip), []).append("/32 host LOCAL")
        broadcast = leaves.setdefault(int(network.broadcast_address), [])
        broadcast += ["/32 link BROADCAST"] if not broadcast else []
    text = "\n".join(_trie(leaves, 0, 0, 1))
    return f"Main:\n{text}\nLocal:\n{text}\n"


def _trie(leaves: Leaves, prefix: int, length: int, depth: int) -> list[str]:
    """The node of `length` bits that holds `leaves`, which differ in the bit after those."""
    pad = "   " * (depth - 1)
    lines = [f"{pad}  +-- {IPv4Address(prefix)}/{length} {min(len(leaves), 2)} 0 {len(leaves)}"]
    bit = 1 << (31 - length)
    for part in (0, bit):
        inside = {key: kinds for key, kinds in leaves.items() if key & bit == part}
        if len(inside) == 1:
            ((key, kinds),) = inside.items()
            lines.append(f"{pad}     |-- {IPv4Address(key)}")
            lines += [f"{pad}        {kind}" for kind in kinds]
        elif inside:
            common = _common_bits(list(inside))
            shift = 32 - common
            lines += _trie(inside, min(inside) >> shift << shift, common, depth + 1)
    return lines


def _common_bits(keys: list[int]) -> int:
    differing = max(key ^ keys[0] for key in keys)
    return 32 - differing.bit_length()
