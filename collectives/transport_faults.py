"""Faults that the proof of transport shows: sockets where RDMA was there to be used, and half a link.

A fall back to sockets is a fault (exit status 1), as every fault that is found: the figures are right, but they are
another network's than the one that was bought, ten times slower, and nothing else in the table says so. NCCL_NET=Socket
is how somebody says that sockets are meant; then it is only noted. Half a link is a warning: the figures are the link's
own, and who has pinned one half may have meant it.
"""

from __future__ import annotations

from collections.abc import Sequence

from roofprobe.collectives.host_facts import HostFacts
from roofprobe.collectives.results import RankInfo
from roofprobe.collectives.transport_records import Pair, in_words
from roofprobe.finding import Finding

SOCKET_FALLBACK = "link.socket-fallback"
ONE_HALF = "link.one-half"
ENOUGH_LOCKED_BYTES = 64 << 20
"""NCCL registers some tens of MiB of buffers with a NIC; the usual default limit, 8 MiB, is too little for them."""


def find_faults(ranks: Sequence[RankInfo], pairs: Sequence[Pair], facts: Sequence[HostFacts]) -> list[Finding]:
    """`facts` by rank. One fault a host and kind, in the pairs' order."""
    found: dict[tuple[str, str], Finding] = {}
    for pair in pairs:
        if ranks[pair.ranks[0]].network == ranks[pair.ranks[1]].network:
            continue
        both = [facts[rank] for rank in pair.ranks]
        for rank, own in zip(pair.ranks, both):
            fault = None
            if pair.network == "sockets" and all(each.devices for each in both):
                fault = _fell_back(ranks[rank].host, own, pair)
            elif pair.network in ("RoCE", "IB", "RDMA"):
                fault = _one_half(ranks[rank].host, own, pair)
            if fault is not None:
                found.setdefault((fault.id, fault.host), fault)
    return list(found.values())


def _fell_back(host: str, facts: HostFacts, pair: Pair) -> Finding:
    devices = in_words([device.name for device in facts.devices])
    active = "is" if len(facts.devices) == 1 else "are"
    asked = facts.choices.get("NCCL_NET", "").lower() == "socket"
    how = "uses sockets, as NCCL_NET=Socket says" if asked else "fell back to sockets"
    over = f" over {in_words(pair.over)}" if pair.over else ""
    return Finding(
        id=SOCKET_FALLBACK,
        severity="info" if asked else "fault",
        host=host,
        evidence=f"NCCL {how}{over} although {devices} {active} active",
        remedy="unset NCCL_NET to use RDMA" if asked else _way_back(facts),
    )


def _way_back(facts: HostFacts) -> str:
    """The one thing that is seen to stand in the way, or all that may."""
    disabled = facts.choices.get("NCCL_IB_DISABLE", "0")
    if disabled not in ("", "0"):
        return f"NCCL_IB_DISABLE={disabled} turns RDMA off: unset it"
    if not facts.verbs_nodes:
        return "no /dev/infiniband/uverbs* can be opened here: give the container --device=/dev/infiniband"
    if facts.locked_memory_bytes is not None and facts.locked_memory_bytes < ENOUGH_LOCKED_BYTES:
        allowed = facts.locked_memory_bytes >> 10
        return f"only {allowed} KiB of memory may be locked: ulimit -l unlimited; in a container --ulimit memlock=-1"
    if "NCCL_IB_HCA" in facts.choices:
        return f"NCCL_IB_HCA={facts.choices['NCCL_IB_HCA']} may name none of them: unset it or name them"
    if "NCCL_NET" in facts.choices or "NCCL_NET_PLUGIN" in facts.choices:
        return "NCCL_NET or NCCL_NET_PLUGIN chooses another network: unset it, or set NCCL_NET=IB"
    return "check /dev/infiniband, ulimit -l, NCCL_IB_DISABLE and NCCL_IB_HCA, and NCCL's lines NET/IB in its log"


def _one_half(host: str, facts: HostFacts, pair: Pair) -> Finding | None:
    for device in facts.devices:
        other = device.other_half
        if other is None or device.name not in pair.over or other in pair.over:
            continue
        state = "is active and not used" if device.other_half_active else "is not active"
        remedy = f"set NCCL_IB_HCA={device.name},{other}" if device.other_half_active else f"bring {other}'s port up"
        return Finding(
            id=ONE_HALF,
            severity="warning",
            host=host,
            evidence=f"{device.name} carries the link alone, at most half of 200 Gb/s; its other half {other} {state}",
            remedy=remedy,
        )
    return None
