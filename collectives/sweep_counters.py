"""What every host's counters say of one collective's sweep: bytes sent, and what had to be sent again.

A link that drops frames or goes down for a moment gives figures that are right and low; only these counters say why.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from roofprobe.collectives.process_group import Group
from roofprobe.collectives.proving_exchange import first_of_host
from roofprobe.collectives.share import tell_everyone
from roofprobe.fabric import Counters, moved, read_counters
from roofprobe.rdma_devices import ROOT
from roofprobe.tree import Tree

RDMA_ERRORS = {
    "counters": ("link_downed", "symbol_error", "port_rcv_errors", "local_link_integrity_errors"),
    "hw_counters": (
        "out_of_sequence",
        "packet_seq_err",
        "local_ack_timeout_err",
        "rnr_nak_retry_err",
        "implied_nak_seq_err",
        "roce_slow_restart",
        "completer_retry_err",  # and the next two: Soft-RoCE's names
        "retry_exceeded_err",
        "send_err",
    ),
}
"""Folder -> names; source: NVIDIA, "Understanding mlx5 Linux counters", and Linux, drivers/infiniband/sw/rxe."""
TCP_AGAIN = "TCP segments sent again"
TCP_USUAL = 1e-3


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """One host's counters at one moment."""

    bytes: Counters
    tcp_segments_sent: int
    errors: dict[str, int]


class HostCounters(msgspec.Struct, frozen=True, kw_only=True):
    """What one host sent, and what went wrong there, between two looks."""

    host: str
    interfaces: dict[str, int]
    ports: dict[str, int]
    tcp_segments_sent: int
    """By every process of the host's network namespace."""
    errors: dict[str, int]
    """``TCP segments sent again``, ``rocep1s0f0/1 out_of_sequence``: those that grew."""


def look(tree: Tree) -> Look:
    """Byte and error counters now; a few small files."""
    errors = {}
    for device in tree.children(ROOT):
        for port in tree.children(f"{ROOT}/{device}/ports"):
            for folder, names in RDMA_ERRORS.items():
                for name in names:
                    value = tree.number(f"{ROOT}/{device}/ports/{port}/{folder}/{name}")
                    if value is not None:
                        errors[f"{device}/{port} {name}"] = value
    tcp = _tcp(tree)
    if "RetransSegs" in tcp:
        errors[TCP_AGAIN] = tcp["RetransSegs"]
    return Look(bytes=read_counters(tree), tcp_segments_sent=tcp.get("OutSegs", 0), errors=errors)


def look_if_first(group: Group, tree: Tree) -> Look | None:
    """The host's counters on its first rank, None on the others."""
    return look(tree) if first_of_host(group) else None


def since(group: Group, tree: Tree, before: Look | None) -> tuple[HostCounters, ...]:
    """What happened on each host since `before`; every rank has to call it, and gets the same."""
    own = () if before is None else (difference(group.ranks[group.rank].host, before, look(tree)),)
    return tuple(each for told in tell_everyone(group, own, tuple[HostCounters, ...]) for each in told)


def difference(host: str, before: Look, after: Look) -> HostCounters:
    """Counters that grew; one that fell was reset, and is left out."""
    gone = moved(before.bytes, after.bytes)
    grown = {name: value - before.errors.get(name, value) for name, value in after.errors.items()}
    return HostCounters(
        host=host,
        interfaces={name: sent for name, (sent, _) in gone.interfaces.items() if sent},
        ports={name: sent for name, (sent, _) in gone.ports.items() if sent},
        tcp_segments_sent=max(0, after.tcp_segments_sent - before.tcp_segments_sent),
        errors={name: value for name, value in grown.items() if value > 0},
    )


def error_lines(hosts: Sequence[HostCounters]) -> list[str]:
    """For after the table, without the leading ``#``: a line for each host on which an error counter grew.

    TCP now and then sends a segment again without need: up to TCP_USUAL of them are not told.
    """
    lines = []
    for each in hosts:
        usual = TCP_USUAL * each.tcp_segments_sent
        told = [f"{name} {n}" for name, n in each.errors.items() if name != TCP_AGAIN or n > usual]
        if told:
            lines.append(f"link errors meanwhile on {each.host}: {', '.join(told)}")
    return lines


def _tcp(tree: Tree) -> dict[str, int]:
    """The namespace's TCP counters of /proc/net/snmp: a line of names, then one of numbers."""
    lines = [line.split() for line in (tree.text("/proc/net/snmp") or "").splitlines() if line.startswith("Tcp: ")]
    if len(lines) != 2 or len(lines[0]) != len(lines[1]):
        return {}
    return {name: int(text) for name, text in zip(*lines) if text.isascii() and text.isdigit() and len(text) < 21}
