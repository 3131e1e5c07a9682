"""Finds the facts of a host in what was read of it."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv6Address
import re
from typing import Literal

from roofprobe.doctor.facts import (
    ContainerFacts,
    DeviceFacts,
    GidFacts,
    HostFacts,
    InterfaceFacts,
    LogFacts,
    MemoryFacts,
    NicFunction,
    PortFacts,
)
from roofprobe.doctor.host import Host
from roofprobe.doctor.software import knows_sm_121
from roofprobe.environment import VARIABLES, cpu_model, product_name
from roofprobe.nccl_log_summary import ProcessLog
from roofprobe.net_interfaces import NetInterface
from roofprobe.rdma_devices import Gid, RdmaDevice, RdmaPort
from roofprobe.tree import Tree

PCI = "/sys/bus/pci/devices"
MELLANOX = "0x15b3"
NIC_MODELS = {"0x101d": "ConnectX-6 Dx", "0x1021": "ConnectX-7", "0x1023": "ConnectX-8", "0x101e": "ConnectX VF"}
"""PCI device ids of vendor 0x15b3. Source: Linux, drivers/net/ethernet/mellanox/mlx5/core/main.c."""
COUNTERS_OF_NOTE = (
    "link_downed",
    "link_error_recovery",
    "symbol_error",
    "port_rcv_errors",
    "port_xmit_discards",
    "out_of_sequence",
    "packet_seq_err",
    "local_ack_timeout_err",
    "rnr_nak_retry_err",
    "roce_adp_retrans",
    "rp_cnp_handled",
)
"""Of a port's counters and hw_counters: lost links, lost or repeated packets, and congestion."""


_NO_LIMIT = 1 << 60


def facts_of(host: Host) -> HostFacts:
    """Everything that is known of a host."""
    software, fabric = host.software, host.fabric
    cpu = cpu_model(host.tree)
    return HostFacts(
        platform=None if host.platform is None else host.platform.name,
        product=product_name(host.tree),
        bios=_bios(host.tree),
        cpu=None if cpu == "unknown" else cpu,
        gpu=software.gpu,
        driver=software.driver,
        cuda=software.cuda,
        torch=software.torch,
        triton=software.triton,
        ptxas=software.ptxas,
        ptxas_knows_sm_121=knows_sm_121(software.ptxas or ""),
        nccl_loaded=software.nccl_loaded,
        memory=_memory(host.tree),
        nics=_nics(host),
        rdma_devices=tuple(_device(host, device) for device in fabric.devices),
        interfaces=tuple(_interface(each) for each in fabric.interfaces if not each.loopback),
        container=_container(host.tree),
        nccl_environment=_recorded(host.nccl_environment),
    )


def log_facts(process: ProcessLog) -> LogFacts:
    """Of one process."""
    devices = dict.fromkeys(name for nic in process.nics.get("IB", ()) for name in nic)
    return LogFacts(
        pid=process.pid,
        rank=process.rank,
        ranks=process.ranks,
        nccl=process.version,
        network=process.network,
        bootstrap=process.bootstrap,
        devices=tuple(devices),
        environment=_recorded(process.environment),
    )


def _recorded(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in sorted(environment.items()) if name in VARIABLES}


def _bios(tree: Tree) -> str | None:
    parts = (tree.text(f"/sys/class/dmi/id/{name}") for name in ("bios_version", "bios_date"))
    return ", ".join(part for part in parts if part) or None


def _memory(tree: Tree) -> MemoryFacts | None:
    lines = re.findall(r"^(\w+(?:\(\w+\))?):\s+(\d{1,18})( kB)?$", tree.text("/proc/meminfo") or "", re.MULTILINE)
    found = {name: int(number) << 10 if unit else int(number) for name, number, unit in lines}
    return MemoryFacts(
        total_bytes=found.get("MemTotal"),
        available_bytes=found.get("MemAvailable"),
        page_cache_bytes=found.get("Cached"),
        swap_total_bytes=found.get("SwapTotal"),
        swap_free_bytes=found.get("SwapFree"),
        hugepages_total=found.get("HugePages_Total"),
        hugepages_free=found.get("HugePages_Free"),
        hugepage_bytes=found.get("Hugepagesize"),
    ) if found else None  # fmt: skip


def _nics(host: Host) -> tuple[NicFunction, ...] | None:
    tree = host.tree
    if not tree.is_folder(PCI):
        return None
    known = {device.pci_address for device in host.fabric.devices}
    return tuple(
        NicFunction(
            pci_address=address,
            model=NIC_MODELS.get(tree.text(f"{PCI}/{address}/device") or ""),
            speed=tree.text(f"{PCI}/{address}/current_link_speed"),
            width=tree.number(f"{PCI}/{address}/current_link_width"),
            max_speed=tree.text(f"{PCI}/{address}/max_link_speed"),
            max_width=tree.number(f"{PCI}/{address}/max_link_width"),
        )
        for address in tree.children(PCI)
        if address in known or tree.text(f"{PCI}/{address}/vendor") == MELLANOX
    )


def _device(host: Host, device: RdmaDevice) -> DeviceFacts:
    other = host.fabric.other_half(device)
    return DeviceFacts(
        name=device.name,
        firmware=device.firmware,
        pci_address=device.pci_address,
        pcie_speed=device.pcie_speed,
        pcie_width=device.pcie_width,
        pcie_max_speed=device.pcie_max_speed,
        pcie_max_width=device.pcie_max_width,
        other_half=None if other is None else other.name,
        netdevs=device.netdevs,
        ports=tuple(_port(port) for port in device.ports),
    )


def _port(port: RdmaPort) -> PortFacts:
    counters = {**port.counters, **port.hardware_counters}
    return PortFacts(
        number=port.number,
        state=port.state,
        physical_state=port.physical_state,
        rate_gbit_per_s=port.rate_gbit_per_s,
        link_layer=port.link_layer,
        gids=tuple(_gid(gid) for gid in port.gids),
        sent_bytes=port.sent_bytes,
        received_bytes=port.received_bytes,
        counters={name: counters[name] for name in COUNTERS_OF_NOTE if name in counters},
    )


def _gid(gid: Gid) -> GidFacts:
    over: Literal["IPv4", "IPv6", "link-local"] = "link-local" if IPv6Address(gid.gid).is_link_local else "IPv6"
    return GidFacts(index=gid.index, type=gid.type, over="IPv4" if gid.ipv4 else over, ipv4=gid.ipv4, ndev=gid.ndev)


def _interface(each: NetInterface) -> InterfaceFacts:
    return InterfaceFacts(
        name=each.name,
        state=each.operstate,
        carrier=each.carrier,
        speed_gbit_per_s=each.speed_gbit_per_s,
        mtu=each.mtu,
        driver=each.driver,
        addresses=each.addresses,
        subnets=each.networks,
    )


def _container(tree: Tree) -> ContainerFacts:
    locked = re.search(r"^Max locked memory\s+(\d{1,20}|unlimited)\s", tree.text("/proc/self/limits") or "", re.M)
    soft = None if locked is None else locked[1]
    return ContainerFacts(
        kind=_kind(tree),
        infiniband_nodes=tree.children("/dev/infiniband") if tree.is_folder("/dev") else None,
        memlock_bytes="unlimited" if soft == "unlimited" else None if soft is None else int(soft),
        memory_limit_bytes=_memory_limit(tree),
    )


def _kind(tree: Tree) -> str | None:
    if not isinstance(tree.read("/.dockerenv"), int):
        return "docker"
    if not isinstance(tree.read("/run/.containerenv"), int):
        return "podman"
    return tree.text("/run/systemd/container")


def _memory_limit(tree: Tree) -> int | None:
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        limit = tree.number(path)
        if limit is not None:
            return limit if limit < _NO_LIMIT else None  # cgroup v1 says 2^63 less a page
    return None
