"""all_reduce: every rank ends with the reduction over all ranks' elements.

    receive[i] = reduce over ranks r of send_r[i]        I/O a rank: 2 (n - 1) / n of the message out, as much in

A ring moves each element n - 1 times while reducing and n - 1 times while distributing, 1/n of the message at a
time; no algorithm without help from the switches moves less. Source: nccl-tests, doc/PERFORMANCE.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from roofprobe.collectives.collective import Call, Collective, Piece, reduce_op, whole

if TYPE_CHECKING:
    import torch

    from roofprobe.collectives.collective import Operation


def bus_factor(world_size: int) -> float:
    """2 (n - 1) / n."""
    return 2 * (world_size - 1) / world_size


def operation(send: torch.Tensor, receive: torch.Tensor, call: Call) -> Operation:
    """torch reduces in place, so an out-of-place operation is a copy into `receive` and a reduction there."""
    import torch.distributed as dist

    op = reduce_op(call.reduction)

    def in_place() -> None:
        dist.all_reduce(receive, op=op)

    def out_of_place() -> None:
        receive.copy_(send)
        dist.all_reduce(receive, op=op)

    return in_place if receive is send else out_of_place


def expected(call: Call, count: int) -> tuple[Piece, ...]:  # noqa: ARG001 - as Collective.expected wants it
    """Everything, reduced."""
    return (Piece(count, first=0, source=None),)


ALL_REDUCE = Collective(
    name="all_reduce",
    bus_factor=bus_factor,
    counts=whole,
    operation=operation,
    expected=expected,
    reduces=True,
    same_everywhere=True,
    out_of_place_note="out of place: a copy into the receive buffer plus the collective, both timed",
)
