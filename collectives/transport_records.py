"""What carried the bytes between ranks, as records and in words."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from roofprobe.finding import Finding

PROVEN_FROM = 0.9
"""Below this share of the bytes that had to cross, an interface's counters do not show that they crossed there."""
MOST_LINES = 16
NCCL_LOG = "NCCL log"


def in_words(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join((", ".join(names[:-1]), names[-1]) if len(names) > 1 else names)


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """Two ranks that send to each other."""

    ranks: tuple[int, int]
    hosts: tuple[str, str]
    network: str
    """``RoCE``, ``IB``, ``RDMA`` (by counters alone), ``sockets``, ``gloo``, ``P2P``, ``shared memory``, ``loopback``,
    a plugin's name, or ``unknown``."""
    over: tuple[str, ...]
    """RDMA devices or network interfaces; for P2P, how."""
    gpu_direct: bool | None
    evidence: tuple[str, ...]
    """``NCCL log``, ``port counters 1.01 of expected``, ``one network namespace``; empty: it is not proven."""

    @property
    def words(self) -> str:
        """``RoCE over rocep1s0f0 and roceP2p1s0f0``."""
        return f"{self.network} over {in_words(self.over)}" if self.over else self.network


class HostTraffic(msgspec.Struct, frozen=True, kw_only=True):
    """What one host's counters saw of a known exchange."""

    host: str
    expected_bytes: int
    """That a ring has to send from this host to others."""
    interfaces: dict[str, int]
    """Interface -> bytes sent."""
    ports: dict[str, int]
    """``DEVICE/PORT`` -> bytes sent by RDMA; the interface's own counters do not see those."""


class TransportProof(msgspec.Struct, frozen=True, kw_only=True):
    """Which network each pair of ranks used, and how that is known."""

    summary: str
    """One line without measured figures, so that runs over the same network have the same."""
    pairs: tuple[Pair, ...]
    traffic: tuple[HostTraffic, ...]
    faults: tuple[Finding, ...]

    def lines(self) -> list[str]:
        """For the preamble, without the leading ``#``."""
        lines = [f"transport: {self.summary}"]
        told = [pair for pair in self.pairs if pair.network != "loopback"]
        for pair in told[:MOST_LINES]:
            a, b = pair.hosts
            who = f"{a} <-> {b}" if a != b else f"rank {pair.ranks[0]} <-> rank {pair.ranks[1]}"
            lines.append(f"transport: {who}: {pair.words} ({'; '.join(pair.evidence) or 'not proven'})")
        if self.summary.startswith("NCCL") and not any(NCCL_LOG in pair.evidence for pair in told) and told:
            lines.append("transport: NCCL's log was not read: leave NCCL_DEBUG out, or give NCCL_DEBUG_FILE with INFO")
        if len(told) > MOST_LINES:
            lines.append(f"transport: {len(told) - MOST_LINES} more pairs in the JSON")
        return lines + self.warnings()

    def warnings(self) -> list[str]:
        """The faults, likewise."""
        lines = []
        for fault in self.faults:
            word = {"fault": "WARNING", "warning": "NOTE", "info": "NOTE"}[fault.severity]
            lines.append(f"{word}: {fault.id}: {fault.host}: {fault.evidence}; {fault.remedy}")
        return lines
