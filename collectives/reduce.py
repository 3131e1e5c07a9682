"""reduce: the root ends with the reduction over all ranks' elements.

    receive_root[i] = reduce over ranks r of send_r[i]        I/O: the message into the root, out of the others

Only the root's result is defined and checked: gloo leaves partial sums in every other rank's buffer (seen: two thirds
of the elements changed at n = 3). nccl-tests, which gives NCCL separate buffers, also sees that the others' stay
untouched. Source: nccl-tests, src/reduce.cu and doc/PERFORMANCE.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from roofprobe.collectives.collective import Call, Collective, Piece, factor_one, reduce_op, whole

if TYPE_CHECKING:
    import torch

    from roofprobe.collectives.collective import Operation


def operation(send: torch.Tensor, receive: torch.Tensor, call: Call) -> Operation:
    """torch reduces in place, so an out-of-place operation is a copy into `receive`, on every rank, and a reduction."""
    import torch.distributed as dist

    op = reduce_op(call.reduction)

    def in_place() -> None:
        dist.reduce(receive, dst=call.root, op=op)

    def out_of_place() -> None:
        receive.copy_(send)
        dist.reduce(receive, dst=call.root, op=op)

    return in_place if receive is send else out_of_place


def expected(call: Call, count: int) -> tuple[Piece, ...]:
    """Everything, reduced, at the root; nothing elsewhere."""
    return (Piece(count, first=0, source=None),) if call.rank == call.root else ()


REDUCE = Collective(
    name="reduce",
    bus_factor=factor_one,
    counts=whole,
    operation=operation,
    expected=expected,
    reduces=True,
    root="destination",
    out_of_place_note="out of place: a copy into the receive buffer plus the collective, both timed",
)
