"""Where a collective's messages lie: two buffers out of place, two views of one buffer in place, as in nccl-tests.

In place, what is shorter than the buffer lies at the rank's own part of it: all_gather sends from
receive + rank * count, and reduce_scatter receives at send + rank * count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from roofprobe.collectives.collective import Call, Collective, Counts
from roofprobe.collectives.dtypes import Dtype

if TYPE_CHECKING:
    import torch

    from roofprobe.collectives.collective import Operation


@dataclass(frozen=True)
class Buffers:
    """What one rank sends and receives at one size, in one way."""

    send: torch.Tensor
    receive: torch.Tensor
    in_place: bool

    def operation(self, collective: Collective, call: Call, as_bytes: bool) -> Operation:
        """The collective on these buffers; `as_bytes` moves them as uint8, for a backend that refuses their type."""
        import torch

        send, receive = self.send, self.receive
        if as_bytes:
            receive = receive.view(torch.uint8)
            send = receive if self.send is self.receive else send.view(torch.uint8)
        return collective.operation(send, receive, call)


@dataclass(frozen=True)
class Room:
    """One rank's two allocations, for every size and both ways."""

    send: torch.Tensor
    receive: torch.Tensor

    def out_of_place(self, counts: Counts) -> Buffers:
        return Buffers(self.send[: counts.send], self.receive[: counts.receive], in_place=False)

    def in_place(self, counts: Counts, rank: int) -> Buffers:
        whole = self.receive[: counts.largest]

        def view(count: int) -> torch.Tensor:
            return whole if count == counts.largest else whole[rank * count : (rank + 1) * count]

        return Buffers(view(counts.send), view(counts.receive), in_place=True)


def make_room(sizes: Sequence[Counts], dtype: Dtype, device: torch.device) -> Room:
    """Allocates for the largest of `sizes`."""
    import torch

    send, receive = _largest(sizes)
    return Room(
        torch.empty(send, dtype=dtype.torch, device=device), torch.empty(receive, dtype=dtype.torch, device=device)
    )


def buffer_bytes(sizes: Sequence[Counts], dtype: Dtype) -> int:
    """What one rank allocates for the sweep."""
    return sum(_largest(sizes)) * dtype.bytes


def _largest(sizes: Sequence[Counts]) -> tuple[int, int]:
    return max(c.send for c in sizes), max(c.largest for c in sizes)


def moved_as_bytes(collective: Collective, dtype: Dtype, backend: str) -> bool:
    """gloo refuses float8 in every call, but moving bytes asks nothing of their type; reducing does."""
    return backend == "gloo" and dtype.is_float8 and not collective.reduces
