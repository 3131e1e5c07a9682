"""The ways of using a small all-reduce whose latency is taken, and the exact check of each.

    pipelined  10 operations on buffers of their own, started back to back without waiting for any; time / 10
    isolated   one operation
    chain      10 operations in place on one buffer, each on the last one's result; time / 10
    loaded     one operation while a GEMV streams through the memory that the ranks' buffers lie in
    graph      the chain, captured once in a CUDA graph and replayed

All are in place: a tensor-parallel layer reduces its own output. The timed launches reduce zeros, which stay zeros
however often they are summed. The check then fills the buffers with inputs of a fresh seed, launches once more in the
same way (for `graph`, the captured graph itself; for `loaded`, under the load) and compares every element. A chain is
shorter where the element type could not hold its last result exactly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from roofprobe.collectives.all_reduce import ALL_REDUCE
from roofprobe.collectives.collective import Call, reduce_op
from roofprobe.collectives.exact import Pattern, fill
from roofprobe.collectives.latency_check import chain_pattern, count_wrong_after, longest_chain
from roofprobe.collectives.process_group import Group, first_line
from roofprobe.collectives.timed_loop import captured
from roofprobe.latency_record import LatencyMode

if TYPE_CHECKING:
    import torch

    from roofprobe.collectives.latency import Launch

PIPELINE = 10
CHAIN = 10


@dataclass(frozen=True)
class Mode:
    """One way of launching: `launch` does `operations` of them, and has ended or is enqueued when it returns."""

    name: LatencyMode
    operations: int
    launch: Launch
    buffers: Sequence[torch.Tensor]
    """What is reduced, each [count]."""
    pattern: Pattern
    """Inputs whose results are exact after all reductions of one launch."""

    @property
    def reductions(self) -> int:
        """Of each buffer in a launch."""
        return self.operations // len(self.buffers)


@dataclass(frozen=True)
class Missing:
    """A mode that can't be had here, and why."""

    name: LatencyMode
    operations: int
    reason: str


def modes(pattern: Pattern, count: int, group: Group) -> Iterator[Mode | Missing]:
    """All modes of messages of `count` elements, over buffers of zeros, in the order in which they are measured.

    The graph comes last: NCCL does more for each operation while a captured one is alive, and eager ones would show it.
    """
    import torch
    import torch.distributed as dist

    rows = list(torch.zeros(PIPELINE, count, dtype=pattern.dtype.torch, device=group.device))
    op = reduce_op(pattern.reduction)
    one = ALL_REDUCE.operation(rows[0], rows[0], Call(group.rank, group.world_size, pattern.reduction))

    def pipelined() -> None:
        for work in [dist.all_reduce(row, op=op, async_op=True) for row in rows]:
            work.wait()

    length = longest_chain(pattern, CHAIN)

    def chain() -> None:
        for _ in range(length or 0):
            one()

    yield Mode("pipelined", PIPELINE, pipelined, rows, pattern)
    yield Mode("isolated", 1, one, rows[:1], pattern)
    if length is None:
        inexact = f"a chain of {pattern.reduction} over {group.world_size} ranks is not exact in {pattern.dtype.name}"
        yield Missing("chain", CHAIN, inexact)
    else:
        yield Mode("chain", length, chain, rows[:1], chain_pattern(pattern, length))
    yield Mode("loaded", 1, one, rows[:1], pattern)
    if length is None:
        yield Missing("graph", CHAIN, inexact)
    else:
        yield _graph(chain, length, rows[:1], chain_pattern(pattern, length), group)


def _graph(chain: Launch, length: int, rows: Sequence[torch.Tensor], pattern: Pattern, group: Group) -> Mode | Missing:
    if group.device.type != "cuda":
        return Missing("graph", length, f"{group.backend} runs on the CPU: there is nothing to capture")
    chain()  # what a communicator sets up at its first use can't be captured
    group.synchronize()
    replay, reason = None, "another rank failed"
    try:
        replay = captured(chain)
    except RuntimeError as error:
        reason = first_line(error)
    # All together or none: one rank alone would wait in another operation than the others.
    everywhere = all(values[0] for values in group.gather([float(replay is not None)]))
    if replay is not None and everywhere:
        return Mode("graph", length, replay, rows, pattern)
    return Missing("graph", length, f"the chain could not be captured: {reason}")


def prepare(mode: Mode, rank: int, seed: int) -> None:
    """Puts this rank's inputs into all of the mode's buffers, other ones into each."""
    for i, buffer in enumerate(mode.buffers):
        fill(buffer, mode.pattern, rank, seed + i)


def count_wrong(mode: Mode, seed: int) -> int:
    """After `prepare` and one launch: how many elements of all the mode's buffers are not exactly right."""
    return sum(
        count_wrong_after(buffer, mode.pattern, seed + i, mode.reductions) for i, buffer in enumerate(mode.buffers)
    )
