"""all_reduce: every rank ends with the reduction over all ranks' elements.

    receive[i] = reduce over ranks r of send_r[i]        I/O a rank: 2 (n - 1) / n of the message out, as much in

A ring moves each element n - 1 times while reducing and n - 1 times while distributing, 1/n of the message at a
time; no algorithm without help from the switches moves less. Source: nccl-tests, doc/PERFORMANCE.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from roofprobe.collectives.collective import Collective

if TYPE_CHECKING:
    import torch


def bus_factor(world_size: int) -> float:
    """2 (n - 1) / n."""
    return 2 * (world_size - 1) / world_size


def start(send: torch.Tensor, receive: torch.Tensor, reduction: str) -> None:
    """torch reduces in place, so an out-of-place operation is a copy into `receive` and a reduction there."""
    import torch.distributed as dist

    operations = {
        "sum": dist.ReduceOp.SUM,
        "prod": dist.ReduceOp.PRODUCT,
        "max": dist.ReduceOp.MAX,
        "min": dist.ReduceOp.MIN,
        "avg": dist.ReduceOp.AVG,
    }
    if receive is not send:
        receive.copy_(send)
    dist.all_reduce(receive, op=operations[reduction])


ALL_REDUCE = Collective(
    name="all_reduce",
    bus_factor=bus_factor,
    start=start,
    # Parsers look for the hyphenated words "out-of-place" to find the table's header, so no other line may have them.
    out_of_place_note="out of place: a copy into the receive buffer plus the collective, both timed",
)
