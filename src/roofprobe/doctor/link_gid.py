"""Whether each RoCE port in use has the GID that NCCL will take: RoCE v2 over IPv4.

Most entries of a GID table are unused, and reading their attributes answers EINVAL.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
import re

from roofprobe.doctor.case import Case
from roofprobe.doctor.host import Host
from roofprobe.doctor.nccl_names import nccl_environment, used_ports
from roofprobe.doctor.ports import LinkPort, is_down
from roofprobe.finding import Finding

ROCE_V2 = "RoCE v2"


def gid_wrong(case: Case) -> Iterator[Finding]:
    for host in case.hosts:
        index = gid_index(nccl_environment(case, host))
        ports = [port for port in used_ports(case, host) if _is_roce(host, port)]
        wrong = [] if index is None else [said for port in ports if (said := _at_index(case, host, port, index))]
        if wrong:
            good = set.intersection(
                *({gid.index for gid in port.port.gids if _over_ipv4(gid.type, gid.ipv4)} for port in ports)
            )
            remedy = (
                f"Set NCCL_IB_GID_INDEX={max(good)}, or unset it: NCCL 2.21 and later find the index themselves."
                if good
                else "Unset NCCL_IB_GID_INDEX, and see that every interface in use has an IPv4 address (ip -br addr)."
            )
            yield Finding(
                id="link.gid-wrong", severity="fault", host=host.name, evidence="; ".join(wrong), remedy=remedy
            )
            continue
        missing = without_ipv4(case, host)
        if missing:
            interfaces = " and ".join(dict.fromkeys(each.name for port in missing for each in port.interfaces))
            yield Finding(
                id="link.gid-wrong",
                severity="fault",
                host=host.name,
                evidence="; ".join(
                    f"{port.place}/gids holds no RoCE v2 GID over IPv4, although the port is up" for port in missing
                )
                + f"; expected one for an address of {interfaces}",
                remedy=f"Give {interfaces} an IPv4 address, each in a subnet of its own (sudo ip addr add ADDRESS/24"
                " dev INTERFACE; keep it in netplan).",
            )


def gid_index(environment: Mapping[str, str]) -> int | None:
    """NCCL_IB_GID_INDEX; None where NCCL is to find it, which a negative one means too."""
    text = environment.get("NCCL_IB_GID_INDEX", "")
    return int(text) if re.fullmatch(r"\s*[0-9]{1,6}\s*", text) else None


def without_ipv4(case: Case, host: Host) -> tuple[LinkPort, ...]:
    """RoCE ports in use whose interface is up and which have no GID for an IPv4 address, whatever the index says."""
    if _over_ipv6(case, host):
        return ()
    return tuple(
        port
        for port in used_ports(case, host)
        if _is_roce(host, port)
        and port.interfaces
        and not any(map(is_down, port.interfaces))
        and not any(_over_ipv4(gid.type, gid.ipv4) for gid in port.port.gids)
    )


def _is_roce(host: Host, port: LinkPort) -> bool:
    """An Ethernet port whose GID table was recorded, whole: an entry that has a type has its GID too."""
    types = f"{port.place}/gid_attrs/types"
    typed = [name for name in host.tree.children(types) if host.tree.text(f"{types}/{name}") is not None]
    recorded = host.tree.children(f"{port.place}/gids")
    whole = all(host.tree.text(f"{port.place}/gids/{name}") is not None for name in typed)
    return port.port.link_layer == "Ethernet" and bool(recorded) and whole


def _over_ipv6(case: Case, host: Host) -> bool:
    """Whether NCCL was told to take IPv6's GIDs."""
    return nccl_environment(case, host).get("NCCL_IB_ADDR_FAMILY", "").strip() == "AF_INET6"


def _over_ipv4(kind: str | None, ipv4: str | None) -> bool:
    """A type that was not recorded counts for either."""
    return kind in (None, ROCE_V2) and ipv4 is not None


def _at_index(case: Case, host: Host, port: LinkPort, index: int) -> str | None:
    expected = f"NCCL_IB_GID_INDEX={index} expects RoCE v2 over IPv4 there"
    gid = next((each for each in port.port.gids if each.index == index), None)
    if gid is None:
        return f"{port.place}/gids/{index} is empty; {expected}"
    if gid.type not in (None, ROCE_V2):
        return f"{port.place}/gid_attrs/types/{index} reads {gid.type}; {expected}"
    if gid.ipv4 is None and not _over_ipv6(case, host):
        return f"{port.place}/gids/{index} is {gid.gid}, no IPv4 address; {expected}"
    return None
