"""What the sweep has to know of a collective; each is one value of this type in a file of its own.

A message of `count` elements a rank is what nccl-tests' count column says. Some collectives move it whole (all_reduce,
broadcast, reduce, sendrecv), others a part of it to or from each rank: there the size is that of all n parts together,
and a part is a whole number of 16 bytes, as in nccl-tests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    import torch
    import torch.distributed as dist

    Operation: TypeAlias = Callable[[], None]

PART_BYTES = 16


@dataclass(frozen=True)
class Counts:
    """How many elements one rank names in the call, sends, and receives."""

    count: int
    """The call's own argument and the table's count column: of all_gather and others, one part."""
    send: int
    receive: int

    @property
    def largest(self) -> int:
        """What the size column tells, and what a buffer that is used in place has to hold."""
        return max(self.send, self.receive)


@dataclass(frozen=True)
class Call:
    """Who calls, and with what besides the buffers."""

    rank: int
    world_size: int
    reduction: str = "sum"
    root: int = 0


@dataclass(frozen=True)
class Piece:
    """What the next `count` elements of a receive buffer must hold: elements `first` onwards of what ranks put in."""

    count: int
    first: int
    source: int | None
    """The rank that they come from; None for the reduction over all ranks."""


@dataclass(frozen=True)
class Collective:
    """One collective operation."""

    name: str
    bus_factor: Callable[[int], float]
    """World size -> bus bytes over message bytes, nccl-tests' factor."""
    counts: Callable[[int, int, int], Counts]
    """(elements of a message, world size, bytes of an element) -> what a rank sends and receives: `whole`, …"""
    operation: Callable[[torch.Tensor, torch.Tensor, Call], Operation]
    """(send [counts.send], receive [counts.receive], call): one operation to be started, again and again.

    On a CPU it has ended when it returns; on a GPU it is then enqueued on the current stream. In place, send and
    receive are views of one buffer, and where both are all of it they are the same tensor.
    """
    expected: Callable[[Call, int], tuple[Piece, ...]]
    """(call, counts.count): all that this rank must have received; empty where it receives nothing."""
    reduces: bool
    out_of_place_note: str
    """For the preamble: what the first column times. Without the hyphenated words by which parsers find the table."""
    root: Literal["source", "destination"] | None = None
    """What the root is, where there is one: who alone sends, or who alone receives."""
    in_place: bool = True
    """False where an in-place call has no defined result: timed as nccl-tests does, never checked nor fitted."""
    same_everywhere: bool = False
    """Whether every rank receives the same, so that ranks can be held against each other too."""
    names_reduction: bool = False
    """Whether nccl-tests prints the reduction although there is none, as for sendrecv."""

    @property
    def prints_reduction(self) -> bool:
        return self.reduces or self.names_reduction

    @property
    def repeatable_in_place(self) -> bool:
        """Whether a second operation in place gives what the first gave, so that the timed loop's can be checked."""
        return self.in_place and not self.reduces

    def sends(self, call: Call) -> bool:
        """Whether this rank's elements matter."""
        return self.root != "source" or call.rank == call.root


def whole(elements: int, world_size: int, element_bytes: int) -> Counts:  # noqa: ARG001 - as Collective.counts wants it
    """Every rank sends and receives the message whole."""
    return Counts(count=elements, send=elements, receive=elements)


def part(elements: int, world_size: int, element_bytes: int) -> int:
    """Elements of one of n equal parts: 1/n of the message, rounded down to a multiple of 16 bytes."""
    multiple = PART_BYTES // element_bytes
    return elements // world_size // multiple * multiple


def share_of_peers(world_size: int) -> float:
    """(n - 1) / n: of n equal parts, one stays where it is."""
    return (world_size - 1) / world_size


def factor_one(world_size: int) -> float:  # noqa: ARG001 - as Collective.bus_factor wants it
    """1: every byte of the message crosses the wire into or out of one rank once."""
    return 1.0


def reduce_op(reduction: str) -> dist.ReduceOp.RedOpType:
    """torch's name for sum, prod, max, min or avg."""
    import torch.distributed as dist

    return {
        "sum": dist.ReduceOp.SUM,
        "prod": dist.ReduceOp.PRODUCT,
        "max": dist.ReduceOp.MAX,
        "min": dist.ReduceOp.MIN,
        "avg": dist.ReduceOp.AVG,
    }[reduction]
