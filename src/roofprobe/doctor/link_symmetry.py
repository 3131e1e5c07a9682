"""What has to be alike on every host of a cluster: the number of NICs, their MTU, their firmware."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from roofprobe.doctor.case import Case
from roofprobe.doctor.host import Host
from roofprobe.doctor.nccl_names import chosen_devices, takes, used_ports
from roofprobe.doctor.peers import alike, names, usual
from roofprobe.doctor.ports import LinkPort, link_ports, qsfp_ports
from roofprobe.finding import Finding, OwnFinding
from roofprobe.rdma_devices import ROOT

GB10_MTU = 9000


@dataclass(frozen=True)
class Reading:
    """One value on one host; those with the same subject have to agree."""

    host: Host
    subject: str
    path: str
    value: int | str


def nic_asymmetry(case: Case) -> Iterator[Finding]:
    """Where as many hosts have more as have fewer, those with fewer are odd: NICs go missing, and none appears."""
    for group in alike(case.hosts):
        ports = [usable_ports(case, host) for host in group]
        counts = [len(each) for each in ports]
        expected = usual(counts, rather=max(counts))
        others = names(host for host, count in zip(group, counts, strict=True) if count == expected)
        for host, here in zip(group, ports, strict=True):
            if len(here) != expected:
                held = ", ".join(port.name for port in here) or "none"
                # A host that has most is odd because of what the others lack.
                kind = OwnFinding if len(here) < max(counts) else Finding
                yield kind(
                    id="link.nic-asymmetry",
                    severity="fault",
                    host=host.name,
                    evidence=f"NCCL can use {len(here)} RDMA ports on {host.name} ({held}) and {expected} on {others},"
                    " by /sys/class/infiniband and NCCL_IB_HCA; expected as many on every host",
                    remedy=f"Compare lspci -d 15b3: and ls /sys/class/infiniband on {host.name} with {others}: plug the"
                    " cable in; where a function is missing, shut the unit down, unplug it for a minute and start it"
                    " again; set the same NCCL_IB_HCA on every host.",
                )


def usable_ports(case: Case, host: Host) -> tuple[LinkPort, ...]:
    """The ports that NCCL would use, were NCCL_IB_HCA free of what other findings say: a list that matches no device
    counts as none (link.interface-wrong), and one that takes half of a GB10 port as taking it whole (link.one-half)."""
    used = used_ports(case, host)
    if not any(takes(chosen_devices(case, host), port) for port in link_ports(host.fabric)):
        return tuple(port for port in link_ports(host.fabric) if port.up)
    devices = {port.device.name for port in used}
    beside = [
        port
        for halves in qsfp_ports(host).values()
        if any(each.device.name in devices for each in halves)
        for port in halves
        if port.up and port.device.name not in devices
    ]
    return (*used, *beside)


def mtu_mismatch(case: Case) -> Iterator[Finding]:
    """Every interface of a GB10 link has one MTU, on every unit; elsewhere those of one name have."""
    for group in _groups(case.hosts):
        readings = [reading for host in group for reading in _mtus(case, host)]
        for odd, evidence in _disagreeing(readings, rather=GB10_MTU if qsfp_ports(group[0]) else None):
            yield Finding(
                id="link.mtu-mismatch",
                severity="fault",
                host=odd,
                evidence=evidence,
                remedy=f"Set one MTU at both ends and on both halves: sudo ip link set INTERFACE mtu {GB10_MTU}, and"
                " the same on a switch between them; keep it in netplan.",
            )


def mtu_small(case: Case) -> Iterator[Finding]:
    """Small but alike: slower, and no fault. Of a unit alone it is no more than a fact."""
    for group in _groups(case.hosts):
        readings = [reading for host in group if qsfp_ports(host) for reading in _mtus(case, host)]
        values = {reading.value for reading in readings}
        if len(values) == 1 and all(isinstance(value, int) and value < GB10_MTU for value in values):
            for host in dict.fromkeys(reading.host.name for reading in readings):
                here = [reading for reading in readings if reading.host.name == host]
                yield Finding(
                    id="link.mtu-small",
                    severity="warning" if len(group) > 1 else "info",
                    host=host,
                    evidence=f"{_quoted(here)}; expected {GB10_MTU}",
                    remedy=f"Set it at both ends and on both halves: sudo ip link set INTERFACE mtu {GB10_MTU}; keep it"
                    " in netplan.",
                )


def firmware_differs(case: Case) -> Iterator[Finding]:
    for group in _groups(case.hosts):
        readings = [
            Reading(host, "link" if halves else device.name, f"{ROOT}/{device.name}/fw_ver", device.firmware)
            for host in group
            for halves in [{port.device.name for each in qsfp_ports(host).values() for port in each}]
            for device in host.fabric.devices
            if device.firmware is not None and (not halves or device.name in halves)
        ]
        for odd, evidence in _disagreeing(readings):
            yield Finding(
                id="link.firmware-differs",
                severity="info",
                host=odd,
                evidence=evidence,
                remedy="Bring the adapters to one firmware: sudo fwupdmgr refresh && sudo fwupdmgr update on each.",
            )


def _groups(hosts: tuple[Host, ...]) -> Iterator[tuple[Host, ...]]:
    """Hosts of one kind, and each that is alone."""
    grouped = alike(hosts)
    yield from grouped
    yield from ((host,) for host in hosts if not any(host is each for group in grouped for each in group))


def _mtus(case: Case, host: Host) -> Iterator[Reading]:
    subject = "link" if qsfp_ports(host) else None
    for port in usable_ports(case, host):
        for each in port.interfaces:
            if port.port.link_layer != "InfiniBand" and each.mtu is not None:
                yield Reading(host, subject or each.name, f"/sys/class/net/{each.name}/mtu", each.mtu)


def _disagreeing(readings: list[Reading], rather: int | None = None) -> Iterator[tuple[str, str]]:
    """Odd host and evidence, once a host; where nobody can say who is odd, all that disagree together."""
    told: dict[str, list[str]] = {}
    by_subject: dict[str, list[Reading]] = {}
    for reading in readings:
        by_subject.setdefault(reading.subject, []).append(reading)
    for about in by_subject.values():
        expected = usual((reading.value for reading in about), rather=rather)
        if len({reading.value for reading in about}) < 2:
            continue
        odd = [reading for reading in about if reading.value != expected]
        if expected is None:
            told.setdefault(names(reading.host for reading in odd), []).append(
                f"{_quoted(odd, hosts=True)}; expected one value"
            )
            continue
        others = names(reading.host for reading in about if reading.value == expected)
        for name in dict.fromkeys(reading.host.name for reading in odd):
            here = [reading for reading in odd if reading.host.name == name]
            told.setdefault(name, []).append(f"{_quoted(here)}; expected {expected}, as on {others}")
    for name, evidence in told.items():
        yield name, "; ".join(evidence)


def _quoted(readings: Iterable[Reading], hosts: bool = False) -> str:
    return ", ".join(
        f"{r.host.name}: {r.path} reads {r.value}" if hosts else f"{r.path} reads {r.value}" for r in readings
    )
