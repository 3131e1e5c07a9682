"""broadcast: every rank ends with the root's elements.

    receive[i] = send_root[i]        I/O: the message out of the root once, into every other rank once

Source: nccl-tests, src/broadcast.cu and doc/PERFORMANCE.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from roofprobe.collectives.collective import Call, Collective, Piece, factor_one, whole

if TYPE_CHECKING:
    import torch

    from roofprobe.collectives.collective import Operation


def operation(send: torch.Tensor, receive: torch.Tensor, call: Call) -> Operation:
    """torch broadcasts in place, so out of place the root copies into `receive` first; the others receive there."""
    import torch.distributed as dist

    def in_place() -> None:
        dist.broadcast(receive, src=call.root)

    def out_of_place() -> None:
        receive.copy_(send)
        dist.broadcast(receive, src=call.root)

    return out_of_place if call.rank == call.root and receive is not send else in_place


def expected(call: Call, count: int) -> tuple[Piece, ...]:
    """Everything that the root put in."""
    return (Piece(count, first=0, source=call.root),)


BROADCAST = Collective(
    name="broadcast",
    bus_factor=factor_one,
    counts=whole,
    operation=operation,
    expected=expected,
    reduces=False,
    root="source",
    same_everywhere=True,
    out_of_place_note="out of place: the root's copy into its receive buffer plus the collective, both timed",
)
