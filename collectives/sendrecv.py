"""sendrecv: every rank sends its elements to the next rank and receives those of the one before, around a ring.

    receive[i] = send_(rank - 1 mod n)[i]        I/O a rank: the message out once and in once

In place the result is undefined, because a message may arrive before the one that it overwrites has left: nccl-tests
times that call and prints N/A for its check, and so does this. Source: nccl-tests, src/sendrecv.cu.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from roofprobe.collectives.collective import Call, Collective, Piece, factor_one, whole

if TYPE_CHECKING:
    import torch

    from roofprobe.collectives.collective import Operation


def operation(send: torch.Tensor, receive: torch.Tensor, call: Call) -> Operation:
    """Both at once, as one group of calls. A single rank copies: gloo connects no rank to itself."""
    import torch.distributed as dist

    if call.world_size == 1:
        return lambda: _copy(send, receive)
    both = [
        dist.P2POp(dist.isend, send, (call.rank + 1) % call.world_size),
        dist.P2POp(dist.irecv, receive, (call.rank - 1) % call.world_size),
    ]

    def exchange() -> None:
        for work in dist.batch_isend_irecv(both):
            work.wait()

    return exchange


def _copy(send: torch.Tensor, receive: torch.Tensor) -> None:
    receive.copy_(send)


def expected(call: Call, count: int) -> tuple[Piece, ...]:
    """Everything of the rank before."""
    return (Piece(count, first=0, source=(call.rank - 1) % call.world_size),)


SENDRECV = Collective(
    name="sendrecv",
    bus_factor=factor_one,
    counts=whole,
    operation=operation,
    expected=expected,
    reduces=False,
    in_place=False,
    names_reduction=True,
    out_of_place_note="out of place: every rank sends and receives at once",
)
