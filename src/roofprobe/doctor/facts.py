"""The facts of a host, for people and for JSON, whether or not anything is wrong with it; `read_facts.py` finds them.

Everything that could not be had is None. Raw GIDs and MAC addresses are left out: they identify a machine, and no fact
needs them.
"""

from __future__ import annotations

from typing import Literal

import msgspec


class MemoryFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Of /proc/meminfo. On GB10 this is the GPU's memory too, and page cache counts against it until it is dropped."""

    total_bytes: int | None
    available_bytes: int | None
    page_cache_bytes: int | None
    swap_total_bytes: int | None
    swap_free_bytes: int | None
    hugepages_total: int | None
    hugepages_free: int | None
    hugepage_bytes: int | None


class NicFunction(msgspec.Struct, frozen=True, kw_only=True):
    """One PCI function of a ConnectX: a port on most machines, half a port on GB10."""

    pci_address: str
    model: str | None
    speed: str | None
    width: int | None
    max_speed: str | None
    max_width: int | None


class GidFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One used entry of a GID table; its index is what NCCL_IB_GID_INDEX means."""

    index: int
    type: str | None
    over: Literal["IPv4", "IPv6", "link-local"]
    ipv4: str | None
    ndev: str | None


class PortFacts(msgspec.Struct, frozen=True, kw_only=True):
    number: int
    state: str | None
    physical_state: str | None
    rate_gbit_per_s: float | None
    """Means nothing while the port is down."""
    link_layer: str | None
    gids: tuple[GidFacts, ...]
    sent_bytes: int | None
    received_bytes: int | None
    counters: dict[str, int]
    """Those of note."""


class DeviceFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One RDMA device."""

    name: str
    firmware: str | None
    pci_address: str | None
    pcie_speed: str | None
    pcie_width: int | None
    pcie_max_speed: str | None
    pcie_max_width: int | None
    other_half: str | None
    """The device of the same QSFP port's other half."""
    netdevs: tuple[str, ...]
    ports: tuple[PortFacts, ...]


class InterfaceFacts(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    state: str | None
    carrier: bool | None
    speed_gbit_per_s: float | None
    mtu: int | None
    driver: str | None
    addresses: tuple[str, ...]
    subnets: tuple[str, ...]


class ContainerFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What may keep a process from the link and the memory that the machine has."""

    kind: str | None
    """``docker``, ``podman`` or what systemd says; None outside a container, or where nothing tells."""
    infiniband_nodes: tuple[str, ...] | None
    """Names in /dev/infiniband; None where /dev is not known."""
    memlock_bytes: int | Literal["unlimited"] | None
    """The soft limit of memory that a process may pin, which RDMA needs."""
    memory_limit_bytes: int | None
    """The cgroup's; None without one."""


class LogFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What one process' NCCL log said."""

    pid: int
    rank: int | None
    ranks: int | None
    nccl: str | None
    network: str | None
    bootstrap: str | None
    devices: tuple[str, ...]
    environment: dict[str, str]


class HostFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One host's. A host that only logs or samplings tell of has those alone."""

    platform: str | None = None
    product: str | None = None
    bios: str | None = None
    cpu: str | None = None
    gpu: str | None = None
    driver: str | None = None
    cuda: str | None = None
    torch: str | None = None
    triton: str | None = None
    ptxas: str | None = None
    ptxas_knows_sm_121: bool | None = None
    nccl_loaded: str | None = None
    memory: MemoryFacts | None = None
    nics: tuple[NicFunction, ...] | None = None
    """The ConnectX functions on the PCI bus; with no cable, GB10's leave it. None where the bus is not known."""
    rdma_devices: tuple[DeviceFacts, ...] = ()
    interfaces: tuple[InterfaceFacts, ...] = ()
    container: ContainerFacts | None = None
    nccl_environment: dict[str, str] = {}
    nccl_logs: tuple[LogFacts, ...] = ()
