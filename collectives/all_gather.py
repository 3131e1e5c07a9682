"""all_gather: every rank ends with all ranks' parts, in order of rank.

    receive[r * count + i] = send_r[i]        I/O a rank: (n - 1) / n of the message out and in

The message, and so the table's size, is what a rank receives: n parts of `count`. In place, a rank's own part already
lies at its place in the receive buffer. Source: nccl-tests, src/all_gather.cu and doc/PERFORMANCE.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from roofprobe.collectives.collective import Call, Collective, Counts, Piece, part, share_of_peers

if TYPE_CHECKING:
    import torch

    from roofprobe.collectives.collective import Operation


def counts(elements: int, world_size: int, element_bytes: int) -> Counts:
    """One part sent, n received."""
    count = part(elements, world_size, element_bytes)
    return Counts(count=count, send=count, receive=count * world_size)


def operation(send: torch.Tensor, receive: torch.Tensor, call: Call) -> Operation:  # noqa: ARG001
    """Needs no copy: torch takes a send tensor that lies within `receive` as NCCL does."""
    import torch.distributed as dist

    # torch 2.13 renamed it and warns about the old name on every rank.
    gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor

    def gather_once() -> None:
        gather(receive, send)

    return gather_once


def expected(call: Call, count: int) -> tuple[Piece, ...]:
    """Each rank's part."""
    return tuple(Piece(count, first=0, source=rank) for rank in range(call.world_size))


ALL_GATHER = Collective(
    name="all_gather",
    bus_factor=share_of_peers,
    counts=counts,
    operation=operation,
    expected=expected,
    reduces=False,
    same_everywhere=True,
    out_of_place_note="out of place: the own part is copied by the collective itself",
)
