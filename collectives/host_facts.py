"""What of a host bears on which network NCCL can use: its RDMA devices, its limits and NCCL's environment."""

from __future__ import annotations

from collections.abc import Mapping
import os
import resource

import msgspec

from roofprobe.fabric import read_fabric
from roofprobe.tree import Tree

NCCL_CHOICES = ("NCCL_NET", "NCCL_NET_PLUGIN", "NCCL_IB_DISABLE", "NCCL_IB_HCA", "NCCL_IB_MERGE_NICS")


class ActiveDevice(msgspec.Struct, frozen=True, kw_only=True):
    """An RDMA device with an active port."""

    name: str
    other_half: str | None
    """The device of the same QSFP port's other half, active or not; only GB10's have one."""
    other_half_active: bool


class HostFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One process' view of its host."""

    devices: tuple[ActiveDevice, ...]
    verbs_nodes: int
    """Device files below /dev/infiniband that this process may open: a container often has none."""
    locked_memory_bytes: int | None
    """The limit on locked memory; None where there is none."""
    choices: dict[str, str]
    """NCCL's variables that choose a network."""
    gloo_interface: str | None


def host_facts(tree: Tree, environment: Mapping[str, str]) -> HostFacts:
    """Reads the devices from `tree`; limits and device files are always this process' own."""
    fabric = read_fabric(tree)
    devices = []
    for device in fabric.active_devices:
        other = fabric.other_half(device)
        devices.append(
            ActiveDevice(
                name=device.name,
                other_half=None if other is None else other.name,
                other_half_active=other is not None and other.active,
            )
        )
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    return HostFacts(
        devices=tuple(devices),
        verbs_nodes=verbs_nodes(),
        locked_memory_bytes=None if limit == resource.RLIM_INFINITY else limit,
        choices={name: environment[name] for name in NCCL_CHOICES if name in environment},
        gloo_interface=environment.get("GLOO_SOCKET_IFNAME"),
    )


def verbs_nodes() -> int:
    """Device files of RDMA verbs that this process may open."""
    folder = "/dev/infiniband"
    try:
        names = os.listdir(folder)
    except OSError:
        return 0
    return sum(name.startswith("uverbs") and os.access(f"{folder}/{name}", os.R_OK | os.W_OK) for name in names)
