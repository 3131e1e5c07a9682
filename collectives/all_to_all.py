"""all_to_all: every rank ends with the part that each rank had for it, in order of rank.

    receive[r * count + i] = send_r[rank * count + i]        I/O a rank: (n - 1) / n of the message out and in

The message, and so the table's size, is n parts of `count`. In place the result is undefined, because a part may
arrive before the one that it overwrites has left: nccl-tests times that call and prints N/A for its check, and so
does this. Source: nccl-tests, src/alltoall.cu and doc/PERFORMANCE.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from roofprobe.collectives.collective import Call, Collective, Counts, Piece, part, share_of_peers

if TYPE_CHECKING:
    import torch

    from roofprobe.collectives.collective import Operation


def counts(elements: int, world_size: int, element_bytes: int) -> Counts:
    """n parts sent, n received."""
    count = part(elements, world_size, element_bytes)
    return Counts(count=count, send=count * world_size, receive=count * world_size)


def operation(send: torch.Tensor, receive: torch.Tensor, call: Call) -> Operation:  # noqa: ARG001
    """Equal parts for all."""
    import torch.distributed as dist

    def exchange() -> None:
        dist.all_to_all_single(receive, send)

    return exchange


def expected(call: Call, count: int) -> tuple[Piece, ...]:
    """From each rank, the part for this one."""
    return tuple(Piece(count, first=call.rank * count, source=rank) for rank in range(call.world_size))


ALL_TO_ALL = Collective(
    name="all_to_all",
    bus_factor=share_of_peers,
    counts=counts,
    operation=operation,
    expected=expected,
    reduces=False,
    in_place=False,
    out_of_place_note="out of place: the own part is copied by the collective itself",
)
