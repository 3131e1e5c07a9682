"""InfiniBand and RoCE devices as sysfs describes them: ports, GIDs, counters, and the PCI function behind each.

Every fact that is absent or unreadable is None; most of a GID table answers EINVAL. `rate` is what the port says: one
that is down still says 40 Gb/s, so a rate counts only where the port is active. `port_xmit_data` and `port_rcv_data`
count 4-byte words, headers included.

Sources: Linux, Documentation/ABI/stable/sysfs-class-infiniband; GB10's ports: NVIDIA, DGX Spark playbooks.
"""

from __future__ import annotations

from ipaddress import AddressValueError, IPv6Address
import re

import msgspec

from roofprobe.tree import Tree

ROOT = "/sys/class/infiniband"
DATA_WORD_BYTES = 4
_NO_GID = IPv6Address(0)
_PCI = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")


class Gid(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of a port's GID table that is in use."""

    index: int
    gid: str
    type: str | None
    """``IB/RoCE v1`` or ``RoCE v2``."""
    ndev: str | None

    @property
    def ipv4(self) -> str | None:
        """The IPv4 address that the GID stands for, as RoCE v2 over IPv4 has."""
        mapped = IPv6Address(self.gid).ipv4_mapped
        return None if mapped is None else str(mapped)


class RdmaPort(msgspec.Struct, frozen=True, kw_only=True):
    """One port of a device."""

    number: int
    state: str | None
    """``ACTIVE``, ``DOWN``, ``INIT`` …"""
    physical_state: str | None
    """``LinkUp``, ``Disabled``, ``Polling`` …"""
    rate_gbit_per_s: float | None
    link_layer: str | None
    """``InfiniBand``, or ``Ethernet`` for RoCE."""
    gids: tuple[Gid, ...]
    counters: dict[str, int]
    hardware_counters: dict[str, int]

    @property
    def active(self) -> bool:
        return self.state == "ACTIVE"

    @property
    def sent_bytes(self) -> int | None:
        return _bytes(self.counters.get("port_xmit_data"))

    @property
    def received_bytes(self) -> int | None:
        return _bytes(self.counters.get("port_rcv_data"))


class RdmaDevice(msgspec.Struct, frozen=True, kw_only=True):
    """One device, ``mlx5_0`` or ``rocep1s0f0``."""

    name: str
    firmware: str | None
    pci_address: str | None
    pcie_speed: str | None
    """``32.0 GT/s PCIe``, as it runs now."""
    pcie_width: int | None
    pcie_max_speed: str | None
    pcie_max_width: int | None
    netdevs: tuple[str, ...]
    """The network interfaces on the same port: the GIDs' own first, then the PCI function's."""
    ports: tuple[RdmaPort, ...]

    @property
    def active(self) -> bool:
        """Whether any port is."""
        return any(port.active for port in self.ports)


def read_devices(tree: Tree) -> tuple[RdmaDevice, ...]:
    """Every device, by name."""
    return tuple(_device(tree, name) for name in tree.children(ROOT))


def port_bytes(tree: Tree) -> dict[str, tuple[int, int]]:
    """``DEVICE/PORT`` -> (bytes sent, bytes received); ports without such counters (Soft-RoCE) are left out."""
    found = {}
    for device in tree.children(ROOT):
        for port in tree.children(f"{ROOT}/{device}/ports"):
            at = f"{ROOT}/{device}/ports/{port}/counters"
            sent = _bytes(tree.number(f"{at}/port_xmit_data"))
            received = _bytes(tree.number(f"{at}/port_rcv_data"))
            if sent is not None and received is not None:
                found[f"{device}/{port}"] = sent, received
    return found


def _device(tree: Tree, name: str) -> RdmaDevice:
    at = f"{ROOT}/{name}"
    numbers = sorted(int(n) for n in tree.children(f"{at}/ports") if re.fullmatch(r"[0-9]{1,3}", n))
    ports = tuple(_port(tree, f"{at}/ports/{number}", number) for number in numbers)
    named = [gid.ndev for port in ports for gid in port.gids if gid.ndev]
    named += tree.children(f"{at}/device/net")
    parent = tree.text(f"{at}/parent")  # Soft-RoCE has no device below it, and names its interface here
    if parent:
        named.append(parent)
    return RdmaDevice(
        name=name,
        firmware=tree.text(f"{at}/fw_ver"),
        pci_address=_pci_address(tree, at),
        pcie_speed=tree.text(f"{at}/device/current_link_speed"),
        pcie_width=tree.number(f"{at}/device/current_link_width"),
        pcie_max_speed=tree.text(f"{at}/device/max_link_speed"),
        pcie_max_width=tree.number(f"{at}/device/max_link_width"),
        netdevs=tuple(dict.fromkeys(named)),
        ports=ports,
    )


def _port(tree: Tree, at: str, number: int) -> RdmaPort:
    rate = re.match(r"([0-9]{1,5}(?:\.[0-9]+)?) Gb/sec", tree.text(f"{at}/rate") or "")
    return RdmaPort(
        number=number,
        state=_named(tree.text(f"{at}/state")),
        physical_state=_named(tree.text(f"{at}/phys_state")),
        rate_gbit_per_s=None if rate is None else float(rate[1]),
        link_layer=tree.text(f"{at}/link_layer"),
        gids=_gids(tree, at),
        counters=tree.numbers(f"{at}/counters"),
        hardware_counters=tree.numbers(f"{at}/hw_counters"),
    )


def _gids(tree: Tree, at: str) -> tuple[Gid, ...]:
    found = []
    for index in sorted(int(n) for n in tree.children(f"{at}/gids") if re.fullmatch(r"[0-9]{1,4}", n)):
        try:
            gid = IPv6Address(tree.text(f"{at}/gids/{index}") or "")
        except AddressValueError:
            continue
        if gid != _NO_GID:
            attributes = (tree.text(f"{at}/gid_attrs/{kind}/{index}") for kind in ("types", "ndevs"))
            type_, ndev = attributes
            found.append(Gid(index=index, gid=gid.exploded, type=type_, ndev=ndev))
    return tuple(found)


def _pci_address(tree: Tree, at: str) -> str | None:
    """From where the links lead, and else from the function's uevent."""
    for link in (tree.link(f"{at}/device"), tree.link(at)):
        found = _PCI.findall(link or "")
        if found:
            return str(found[-1])
    named = re.search(r"^PCI_SLOT_NAME=(\S+)$", tree.text(f"{at}/device/uevent") or "", re.MULTILINE)
    return named[1] if named and _PCI.fullmatch(named[1]) else None


def _named(text: str | None) -> str | None:
    """``4: ACTIVE`` -> ``ACTIVE``."""
    return text.partition(":")[2].strip() or None if text and ":" in text else text


def _bytes(words: int | None) -> int | None:
    return None if words is None else words * DATA_WORD_BYTES
