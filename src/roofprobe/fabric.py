"""What links a host has, and how many bytes went over each of them between two looks.

On GB10 one QSFP port is two PCI functions of one ConnectX-7, in two PCI domains at the same place: its halves. A cable
gives 200 Gb/s only when both carry traffic.
"""

from __future__ import annotations

import msgspec

from roofprobe.net_interfaces import NetInterface, interface_bytes, read_interfaces
from roofprobe.rdma_devices import RdmaDevice, port_bytes, read_devices
from roofprobe.tree import Tree


class Fabric(msgspec.Struct, frozen=True, kw_only=True):
    """A host's network interfaces and RDMA devices."""

    interfaces: tuple[NetInterface, ...]
    devices: tuple[RdmaDevice, ...]

    def interface(self, name: str) -> NetInterface | None:
        return next((each for each in self.interfaces if each.name == name), None)

    def device(self, name: str) -> RdmaDevice | None:
        return next((each for each in self.devices if each.name == name), None)

    @property
    def active_devices(self) -> tuple[RdmaDevice, ...]:
        return tuple(device for device in self.devices if device.active)

    def other_half(self, device: RdmaDevice) -> RdmaDevice | None:
        """The device at the same PCI bus, slot and function of another domain: on GB10, the same QSFP port's."""
        if device.pci_address is None:
            return None
        domain, _, place = device.pci_address.partition(":")
        for each in self.devices:
            other_domain, _, other_place = (each.pci_address or "").partition(":")
            if other_place == place and other_domain != domain:
                return each
        return None


class Counters(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes (sent, received) at one moment, by interface and by ``DEVICE/PORT``."""

    interfaces: dict[str, tuple[int, int]]
    ports: dict[str, tuple[int, int]]


def read_fabric(tree: Tree) -> Fabric:
    """Everything; a few hundred small files."""
    return Fabric(interfaces=read_interfaces(tree), devices=read_devices(tree))


def read_counters(tree: Tree) -> Counters:
    """The byte counters alone, cheap enough to be read around a measurement."""
    return Counters(interfaces=interface_bytes(tree), ports=port_bytes(tree))


def moved(before: Counters, after: Counters) -> Counters:
    """The bytes between two looks. A counter that is in one alone, or that fell (it was reset), is left out."""
    return Counters(
        interfaces=_differences(before.interfaces, after.interfaces), ports=_differences(before.ports, after.ports)
    )


def _differences(before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    found = {}
    for name, (sent, received) in after.items():
        earlier = before.get(name)
        if earlier is not None and sent >= earlier[0] and received >= earlier[1]:
            found[name] = sent - earlier[0], received - earlier[1]
    return found
