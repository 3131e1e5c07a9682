"""Hosts that can be compared with each other, and which of them is the odd one out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from typing import TypeVar

from roofprobe.doctor.host import Host
from roofprobe.doctor.ports import qsfp_ports

Value = TypeVar("Value", bound=Hashable)


def alike(hosts: tuple[Host, ...]) -> tuple[tuple[Host, ...], ...]:
    """Groups of two or more hosts of one kind. A host of unknown kind is compared where there is one kind alone."""
    recorded = [host for host in hosts if has_network(host)]
    kinds: dict[str | None, list[Host]] = {}
    for host in recorded:
        kinds.setdefault(_kind(host), []).append(host)
    groups = [recorded] if len(kinds.keys() - {None}) < 2 else list(kinds.values())
    return tuple(tuple(group) for group in groups if len(group) > 1)


def has_network(host: Host) -> bool:
    """Whether the recording holds what could show an RDMA device; one that does not says nothing of their number."""
    return any(host.tree.children(place) for place in ("/sys/class/infiniband", "/sys/class/net"))


def usual(values: Iterable[Value], rather: Value | None = None) -> Value | None:
    """The value that most have; among equally common ones `rather` if it is one of them, and else None."""
    counted = Counter(values).most_common()
    tied = [value for value, count in counted if count == counted[0][1]]
    if len(tied) == 1:
        return tied[0]
    return rather if rather in tied else None


def names(hosts: Iterable[Host]) -> str:
    return ", ".join(dict.fromkeys(host.name for host in hosts))


def _kind(host: Host) -> str | None:
    if host.is_gb10 or qsfp_ports(host):
        return "GB10"
    return host.platform.name if host.platform is not None else host.software.gpu
