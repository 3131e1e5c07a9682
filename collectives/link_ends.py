"""What each host offers a test of the raw link: an address for TCP, and RDMA devices with perftest to drive them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network

import msgspec

from roofprobe.collectives import perftest
from roofprobe.collectives.host_facts import verbs_nodes
from roofprobe.fabric import Fabric
from roofprobe.rdma_devices import RdmaDevice, RdmaPort

ROCE_V2 = "RoCE v2"
MOST_DEVICES = 4


class RdmaEnd(msgspec.Struct, frozen=True, kw_only=True):
    """An active port that perftest can use."""

    device: str
    port: int
    gid_index: int | None
    """Of RoCE v2 over IPv4; None on InfiniBand."""
    address: str | None
    """That GID's."""
    network: str | None
    """The address' network: two ends of one link are in the same one."""


class HostEnd(msgspec.Struct, frozen=True, kw_only=True):
    """What one host offers; from its first rank, and nothing from its others."""

    address: str | None
    interface: str | None
    rdma: tuple[RdmaEnd, ...]
    note: str | None = None
    """Why active RDMA devices are not tested."""


def host_end(fabric: Fabric, over: Iterable[str], otherwise: str | None) -> HostEnd:
    """The address of the interface that carries the collectives, `over` as in a pair's proof, or `otherwise`."""
    names: list[str] = []
    for name in over:
        device = fabric.device(name)
        names += (name,) if device is None else device.netdevs
    interface = next((i for name in names if (i := fabric.interface(name)) is not None and i.addresses), None)
    note = None
    if not perftest.installed():
        note = "perftest is not installed, so RDMA is not measured by itself"
    elif not verbs_nodes():
        note = "no /dev/infiniband/uverbs* can be opened, so RDMA is not measured by itself"
    return HostEnd(
        address=otherwise if interface is None else interface.ip_addresses[0],
        interface=None if interface is None else interface.name,
        rdma=() if note else tuple(rdma_ends(fabric)),
        note=note if fabric.active_devices else None,
    )


def rdma_ends(fabric: Fabric) -> list[RdmaEnd]:
    """One end for each active port; a RoCE port without a v2 GID over IPv4 is left out."""
    networks = [IPv4Network(each) for interface in fabric.interfaces for each in interface.networks]
    found = []
    for device in fabric.active_devices:
        for port in device.ports:
            end = _end(device, port, networks) if port.active else None
            if end is not None:
                found.append(end)
    return found


def _end(device: RdmaDevice, port: RdmaPort, networks: Sequence[IPv4Network]) -> RdmaEnd | None:
    if port.link_layer == "InfiniBand":
        return RdmaEnd(device=device.name, port=port.number, gid_index=None, address=None, network=None)
    for gid in port.gids:
        if gid.type == ROCE_V2 and gid.ipv4 is not None:
            network = next((str(each) for each in networks if IPv4Address(gid.ipv4) in each), None)
            return RdmaEnd(device=device.name, port=port.number, gid_index=gid.index, address=gid.ipv4, network=network)
    return None


def matched(server: HostEnd, client: HostEnd) -> list[tuple[RdmaEnd, RdmaEnd]]:
    """Ports that face each other: in one network, or, where neither tells its network, of the same name."""
    pairs: list[tuple[RdmaEnd, RdmaEnd]] = []
    for ours in server.rdma:
        for theirs in client.rdma:
            told = ours.network is not None and theirs.network is not None
            same = ours.network == theirs.network if told else (ours.device, ours.port) == (theirs.device, theirs.port)
            if same and all(theirs != known for _, known in pairs):
                pairs.append((ours, theirs))
                break
    return pairs[:MOST_DEVICES]
