"""A short exchange whose bytes are known, between two looks at every host's counters: where did they go?

An all-reduce over n ranks makes each rank send 2 (n - 1) / n of the message to the next one of a ring (trees send as
much in all), so a host has to send that much for each of its ranks whose next one is on another host. The interface
or RDMA port that sent it is the one that carries the collectives.
"""

from __future__ import annotations

from time import monotonic, perf_counter, sleep

import msgspec

from roofprobe.collectives.process_group import Group
from roofprobe.collectives.share import tell_everyone
from roofprobe.collectives.transport_records import PROVEN_FROM, HostTraffic
from roofprobe.fabric import Counters, moved, read_counters
from roofprobe.tree import Tree

OPERATIONS = 8
MESSAGES = (256 << 10, 1 << 20, 4 << 20, 16 << 20)
"""Bytes. NCCL sends 16 MiB without the flags that double a short message's bytes."""
LONGEST_SECONDS = 1.0
_LATE_COUNTERS_SECONDS = 1.2
"""Some drivers renew an interface's counters once a second."""


class _Seen(msgspec.Struct, frozen=True):
    """What a host's first rank saw; None from the others."""

    counters: Counters | None


def first_of_host(group: Group) -> bool:
    """Whether this rank is the first of its network namespace, and so the one that reads its counters."""
    own = group.ranks[group.rank].network
    return all(other.network != own for other in group.ranks[: group.rank])


def proving_exchange(group: Group, tree: Tree) -> tuple[HostTraffic, ...]:
    """All-reduces for about a second and tells, for each host in order of first rank, what its counters saw.

    Every rank has to call it, and gets the same.
    """
    import torch
    import torch.distributed as dist

    message = _message_bytes(group)
    buffer = torch.zeros(message // 4, dtype=torch.float32, device=group.device)
    reads = first_of_host(group)
    expected = sent_by_host(group, OPERATIONS * message)
    group.barrier()
    before = read_counters(tree) if reads else None
    group.barrier()
    for _ in range(OPERATIONS):
        dist.all_reduce(buffer)
    group.barrier()
    own = group.ranks[group.rank].network
    seen = None if before is None else _settled(tree, before, PROVEN_FROM * expected[own])
    everyone = tell_everyone(group, _Seen(seen), _Seen)
    return tuple(
        HostTraffic(
            host=rank.host,
            expected_bytes=round(expected[rank.network]),
            interfaces={name: sent for name, (sent, _) in told.counters.interfaces.items() if sent},
            ports={name: sent for name, (sent, _) in told.counters.ports.items() if sent},
        )
        for rank, told in zip(group.ranks, everyone)
        if told.counters is not None
    )


def sent_by_host(group: Group, message_bytes: float) -> dict[str, float]:
    """Network namespace -> the bytes that a ring over the ranks in order sends from there to others."""
    n = group.world_size
    found = dict.fromkeys((rank.network for rank in group.ranks), 0.0)
    for rank, following in zip(group.ranks, (*group.ranks[1:], group.ranks[0])):
        if rank.network != following.network:
            found[rank.network] += 2 * (n - 1) / n * message_bytes
    if group.backend == "nccl":
        # NCCL orders its rings so that each enters and leaves a host once.
        once = 2 * (n - 1) / n * message_bytes
        found = {network: min(once, sent) for network, sent in found.items()}
    return found


def _message_bytes(group: Group) -> int:
    """The largest message of which OPERATIONS take no longer than LONGEST_SECONDS, judged by the smallest's time."""
    import torch
    import torch.distributed as dist

    buffer = torch.zeros(MESSAGES[0] // 4, dtype=torch.float32, device=group.device)
    seconds = 0.0
    for _ in range(2):  # the first one connects
        group.barrier()
        began = perf_counter()
        dist.all_reduce(buffer)
        group.synchronize()
        seconds = perf_counter() - began
    slowest = max(values[0] for values in group.gather([seconds]))
    fitting = [size for size in MESSAGES if OPERATIONS * slowest * size / MESSAGES[0] <= LONGEST_SECONDS]
    return fitting[-1] if fitting else MESSAGES[0]


def _settled(tree: Tree, before: Counters, enough: float) -> Counters:
    deadline = monotonic() + _LATE_COUNTERS_SECONDS
    while True:
        seen = moved(before, read_counters(tree))
        others = [sent for name, (sent, _) in seen.interfaces.items() if name != "lo"]
        if max(others, default=0) >= enough or sum(sent for sent, _ in seen.ports.values()) >= enough:
            return seen
        if monotonic() > deadline:
            return seen
        sleep(0.1)
