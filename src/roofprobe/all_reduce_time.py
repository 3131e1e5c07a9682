"""How long one all-reduce takes, from a profile's collectives: which of them to take, and its time at any size."""

from __future__ import annotations

from collections.abc import Iterable

from roofprobe.alpha_beta import predict
from roofprobe.profile_figures import CollectiveResult


def preferred(
    collectives: Iterable[CollectiveResult], world_size: int, transport: str | None = None
) -> CollectiveResult | None:
    """The all-reduce of that many ranks, over a transport whose text holds `transport`; None where there is none.

    Of several, one between hosts stands before one on this host, then one over NCCL before others.
    """
    rows = [
        c
        for c in collectives
        if c.op == "all_reduce"
        and c.world_size == world_size
        and (c.fit or c.points)
        and (transport or "") in c.transport
    ]
    return min(rows, key=lambda c: ("this host" in c.transport, c.backend != "nccl"), default=None)


def message_seconds(found: CollectiveResult, message_bytes: int) -> float:
    """By the size's own median where it was measured, else by the fit; without one by the points.

    Then the next larger size's time stands, and the largest one's rate beyond it.
    """
    for point in found.points:
        if point.bytes == message_bytes and not point.wrong:
            return point.seconds
    if found.fit:
        return predict(found.fit, message_bytes, 2 * (found.world_size - 1) / found.world_size)
    points = sorted(found.points, key=lambda point: point.bytes)
    last = points[-1]
    holding = next((point for point in points if point.bytes >= message_bytes), None)
    return holding.seconds if holding is not None else last.seconds * message_bytes / last.bytes
