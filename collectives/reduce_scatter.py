"""reduce_scatter: every rank ends with one part of the reduction over all ranks' elements.

    receive[i] = reduce over ranks r of send_r[rank * count + i]        I/O a rank: (n - 1) / n of it out and in

The message, and so the table's size, is what a rank sends: n parts of `count`. In place, the part that a rank receives
takes its place in the send buffer. Source: nccl-tests, src/reduce_scatter.cu and doc/PERFORMANCE.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from roofprobe.collectives.collective import Call, Collective, Counts, Piece, part, reduce_op, share_of_peers

if TYPE_CHECKING:
    import torch

    from roofprobe.collectives.collective import Operation


def counts(elements: int, world_size: int, element_bytes: int) -> Counts:
    """n parts sent, one received."""
    count = part(elements, world_size, element_bytes)
    return Counts(count=count, send=count * world_size, receive=count)


def operation(send: torch.Tensor, receive: torch.Tensor, call: Call) -> Operation:
    """Needs no copy: torch takes a receive tensor that lies within `send` as NCCL does."""
    import torch.distributed as dist

    op = reduce_op(call.reduction)
    # torch 2.13 renamed it and warns about the old name on every rank.
    scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor

    def scatter_once() -> None:
        scatter(receive, send, op=op)

    return scatter_once


def expected(call: Call, count: int) -> tuple[Piece, ...]:
    """This rank's part, reduced."""
    return (Piece(count, first=call.rank * count, source=None),)


REDUCE_SCATTER = Collective(
    name="reduce_scatter",
    bus_factor=share_of_peers,
    counts=counts,
    operation=operation,
    expected=expected,
    reduces=True,
    out_of_place_note="out of place: the send buffer stays as it is",
)
