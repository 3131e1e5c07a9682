"""A host's RDMA ports with the network interfaces on them, and on GB10 the QSFP port that each is a half of."""

from __future__ import annotations

from dataclasses import dataclass
import re

from roofprobe.ceiling import Link, find_platform
from roofprobe.doctor.host import Host
from roofprobe.fabric import Fabric
from roofprobe.net_interfaces import NetInterface
from roofprobe.rdma_devices import ROOT, RdmaDevice, RdmaPort

HALF_DOMAINS = ("0000", "0002")
"""The PCI domains of GB10's two halves."""
PORT_PLACES = ("01:00.0", "01:00.1")
"""Bus, slot and function of QSFP ports 0 and 1, in either domain."""
_DOWN = frozenset({"down", "lowerlayerdown", "notpresent"})


@dataclass(frozen=True)
class LinkPort:
    """One port of one RDMA device."""

    device: RdmaDevice
    port: RdmaPort
    interfaces: tuple[NetInterface, ...]

    @property
    def name(self) -> str:
        """The device's, with the port's number where there are several."""
        return self.device.name if len(self.device.ports) == 1 else f"{self.device.name}:{self.port.number}"

    @property
    def place(self) -> str:
        """Its folder in sysfs."""
        return f"{ROOT}/{self.device.name}/ports/{self.port.number}"

    @property
    def up(self) -> bool:
        return self.port.active and not self.why_down

    @property
    def down(self) -> bool:
        """A port whose state can't be read is neither up nor down."""
        return bool(self.why_down)

    @property
    def why_down(self) -> str:
        """The files that say so; empty for a port that is up or not known."""
        said = []
        if self.port.state not in (None, "ACTIVE"):
            said.append(f"{self.place}/state reads {self.port.state}, expected ACTIVE")
        if self.port.physical_state not in (None, "LinkUp"):
            said.append(f"phys_state reads {self.port.physical_state}, expected LinkUp")
        if self.interfaces and all(map(is_down, self.interfaces)):
            said += [f"/sys/class/net/{each.name} is down (operstate {each.operstate})" for each in self.interfaces]
        return "; ".join(said)


def is_down(interface: NetInterface) -> bool:
    """Whether an interface says so; loopback and tunnels say "unknown" while they work."""
    return interface.carrier is False or interface.operstate in _DOWN


def link_ports(fabric: Fabric) -> tuple[LinkPort, ...]:
    """Every port of every RDMA device."""
    interfaces = {each.name: each for each in fabric.interfaces}
    return tuple(
        LinkPort(device, port, tuple(interfaces[name] for name in _netdevs(device) if name in interfaces))
        for device in fabric.devices
        for port in device.ports
    )


def _netdevs(device: RdmaDevice) -> tuple[str, ...]:
    """As recorded, and else the name that the same PCI place gives an interface: rocep1s0f0's is enp1s0f0np0."""
    named = re.fullmatch(r"roce((?:P[0-9]{1,4})?p[0-9]{1,3}s[0-9]{1,2}f([0-7]))", device.name)
    return device.netdevs or (() if named is None else (f"en{named[1]}np{named[2]}",))


def function_of(device: RdmaDevice) -> tuple[str, str] | None:
    """PCI domain, and bus:slot.function; from the device's name where the recording does not say it."""
    if device.pci_address is not None:
        domain, _, place = device.pci_address.partition(":")
        return domain, place
    named = re.fullmatch(r"roce(?:P([0-9]{1,4}))?p([0-9]{1,3})s([0-9]{1,2})f([0-7])", device.name)
    if named is None:
        return None
    return f"{int(named[1] or 0):04x}", f"{int(named[2]):02x}:{int(named[3]):02x}.{named[4]}"


def qsfp_ports(host: Host) -> dict[int, tuple[LinkPort, ...]]:
    """GB10's QSFP ports, 0 and 1, with the one or two halves of each that are on the bus; empty for other machines."""
    functions: dict[tuple[str, str], LinkPort] = {}
    for port in link_ports(host.fabric):
        function = function_of(port.device)
        if function is not None:
            functions.setdefault(function, port)
    found = {
        number: halves
        for number, place in enumerate(PORT_PLACES)
        if (halves := tuple(functions[domain, place] for domain in HALF_DOMAINS if (domain, place) in functions))
    }
    # A machine that nothing names is known by its link: no other has one NIC in these two domains.
    unnamed = host.platform is None and host.software.gpu is None
    known = host.is_gb10 or (unnamed and any(len(halves) == len(HALF_DOMAINS) for halves in found.values()))
    return found if known else {}


def link_of(host: Host) -> Link | None:
    """What the platform promises of a port; GB10's where the link alone shows that it is one."""
    if host.platform is not None:
        return host.platform.link
    gb10 = find_platform("NVIDIA GB10", None)
    return gb10.link if gb10 is not None and qsfp_ports(host) else None
