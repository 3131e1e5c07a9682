"""The timed loop of nccl-tests, with the time of each iteration kept.

`mean_seconds` is nccl-tests' figure: the whole loop, from its first start until the device is idle, over the number
of operations. Nothing waits between operations unless `blocking` says so, so that on a GPU they are pipelined. gloo's
operations return when they have ended; there the loop is back to back, and each operation depends on the last.

`seconds` are the same loop's iterations: between two CUDA events on a GPU, between two readings of the clock else.

blocking, nccl-tests' -z: 0 never waits; 1 waits and meets the other ranks after each operation; 2 waits; 3 waits and
meets them, and the meeting is not timed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from time import perf_counter
from typing import TYPE_CHECKING

from roofprobe.collectives.process_group import Group

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class LoopTimes:
    """One rank's times of one loop, in seconds an operation."""

    mean_seconds: float
    seconds: tuple[float, ...]


def timed_loop(
    operation: Callable[[], None], group: Group, iterations: int, blocking: int, graph_launches: int
) -> LoopTimes:
    """Times `iterations` operations, started on all ranks at once; as a CUDA graph where it is to be launched."""
    if graph_launches:
        return _graph(operation, group, iterations, graph_launches)
    group.barrier()
    if group.device.type == "cuda" and not blocking:
        return _pipelined(operation, group, iterations)
    return _waiting(operation, group, iterations, blocking)


def _waiting(operation: Callable[[], None], group: Group, iterations: int, blocking: int) -> LoopTimes:
    seconds = []
    for _ in range(iterations):
        began = perf_counter()
        operation()
        group.synchronize()
        if blocking == 1:
            group.barrier()
        seconds.append(perf_counter() - began)
        if blocking == 3:
            group.barrier()
    return LoopTimes(sum(seconds) / iterations, tuple(seconds))


def _pipelined(operation: Callable[[], None], group: Group, iterations: int) -> LoopTimes:
    events = _events(iterations + 1)
    began = perf_counter()
    events[0].record()
    for event in events[1:]:
        operation()
        event.record()
    group.watch.progress = lambda: _count_done(events)
    group.synchronize()
    total = perf_counter() - began
    group.watch.progress = None
    return LoopTimes(total / iterations, _between(events, 1))


def _graph(operation: Callable[[], None], group: Group, iterations: int, launches: int) -> LoopTimes:
    """One graph of all iterations, launched several times; a sample is a launch's time over its operations."""

    def loop() -> None:
        for _ in range(iterations):
            operation()

    operation()  # what a communicator sets up at its first use can't be captured
    group.synchronize()
    replay = captured(loop)
    events = _events(launches + 1)
    group.barrier()
    began = perf_counter()
    events[0].record()
    for event in events[1:]:
        replay()
        event.record()
    group.watch.progress = lambda: _count_done(events)
    group.synchronize()
    total = perf_counter() - began
    group.watch.progress = None
    return LoopTimes(total / (launches * iterations), _between(events, iterations))


def captured(work: Callable[[], None]) -> Callable[[], None]:
    """Replays `work`, which has run before, as one CUDA graph. Never run on a GPU so far."""
    import torch

    graph = torch.cuda.CUDAGraph()
    # NCCL's watchdog thread queries events meanwhile, which any stricter mode takes for a part of the capture.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        work()
    return graph.replay


def _events(count: int) -> list[torch.cuda.Event]:
    import torch

    return [torch.cuda.Event(enable_timing=True) for _ in range(count)]


def _count_done(events: list[torch.cuda.Event]) -> int:
    """How many of the events, which end in order, have been reached; asks the device about few of them."""
    return bisect_left(events, True, key=lambda event: not event.query())


def _between(events: list[torch.cuda.Event], operations: int) -> tuple[float, ...]:
    return tuple(a.elapsed_time(b) * 1e-3 / operations for a, b in pairwise(events))
