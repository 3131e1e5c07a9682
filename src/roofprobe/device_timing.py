"""CUDA's half of the timing protocol: events around a captured batch of launches.

One launch of a decode GEMV lasts tens of microseconds, less than a host needs to enqueue it, so a sample is a CUDA
graph of enough launches to last `min_seconds`. The graph is enqueued behind a spin kernel: what a host takes to hand
over hundreds of nodes, by an estimate 20 to 100 us, would be 1 to 5 % of the sample. Where an operation can't be
captured, the launches themselves are enqueued behind a spin, and the record's clock says ``cuda-event``. A sample
counts only if the graph was there before the spin had ended, and if the wall clock agrees with the events.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
import time
from typing import Any

from roofprobe.errors import CannotMeasure
from roofprobe.timing import Launch, PreparedCase, Sample

CLOCKS_DISAGREE_ABOVE = 0.05
NEVER_ADVANCED = "events did not advance"
HOST_LATE = "the device waited for the host to enqueue the graph"
MIN_SECONDS = 2e-3
MAX_LAUNCHES = 512
"""Launches a sample; below the 1024 that a stream queues before the host blocks."""
SPIN_CYCLES_PER_LAUNCH = 40_000
"""About 20 us at 2 GHz: longer than the host takes to enqueue one Triton launch (8 to 15 us)."""
SPIN_CYCLES = 200_000
SPIN_CYCLES_PER_NODE = 1_000
"""About 100 us at 2 GHz, and 0.5 us for each node of a graph; doubled for a host that is slower than that."""
LONGEST_SPIN_CYCLES = 20_000_000
LAUNCHES_TO_ESTIMATE = 8


class DeviceStopwatch:
    """CUDA events, cross-checked with the wall clock.

    Raises CannotMeasure where torch finds no CUDA device.
    """

    def __init__(self, min_seconds: float = MIN_SECONDS, capture: bool = True) -> None:
        import torch

        if not torch.cuda.is_available():
            raise CannotMeasure("no CUDA device: device timings need one")
        self._min_seconds = min_seconds
        self._capture = capture
        self.clock = "cuda-graph" if capture else "cuda-event"

    def prepare(self, launch: Launch) -> PreparedCase:
        import torch

        for count in range(3):
            launch(count)
        torch.cuda.synchronize()
        once = _QueuedCase(launch, LAUNCHES_TO_ESTIMATE).sample().seconds
        launches = min(MAX_LAUNCHES, max(1, round(self._min_seconds / max(once, 1e-7))))
        if self._capture:
            graph = _captured(launch, launches)
            if graph is not None:
                return _GraphCase(graph, launches)
            self.clock = "cuda-event"
        return _QueuedCase(launch, launches)


def _captured(launch: Launch, launches: int) -> Any | None:
    import torch

    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            for count in range(launches):
                launch(count)
    except RuntimeError:
        torch.cuda.synchronize()
        return None
    graph.replay()
    torch.cuda.synchronize()
    return graph


class _GraphCase:
    def __init__(self, graph: Any, launches: int) -> None:
        self.launches_per_sample = launches
        self._graph = graph
        self._spin_cycles = SPIN_CYCLES + SPIN_CYCLES_PER_NODE * launches

    def sample(self) -> Sample:
        start = time.perf_counter()
        timed = _time(self._graph.replay, self._spin_cycles)
        wall = time.perf_counter() - start
        if timed.seconds <= 0:
            problem: str | None = NEVER_ADVANCED
        elif timed.host_late:
            problem = HOST_LATE
            self._spin_cycles = min(2 * self._spin_cycles, LONGEST_SPIN_CYCLES)
        else:
            problem = disagreement(timed.with_spin_seconds, wall)
        return Sample(timed.seconds / self.launches_per_sample, problem)


class _QueuedCase:
    def __init__(self, launch: Launch, launches: int) -> None:
        self.launches_per_sample = launches
        self._launch = launch
        self._count = 4

    def sample(self) -> Sample:
        def batch() -> None:
            for _ in range(self.launches_per_sample):
                self._launch(self._count)
                self._count += 1

        seconds = _time(batch, SPIN_CYCLES_PER_LAUNCH * self.launches_per_sample).seconds
        # A host that is late shows in no clock, and behind long launches it does no harm: only a dead clock is told.
        return Sample(seconds / self.launches_per_sample, NEVER_ADVANCED if seconds <= 0 else None)


@dataclass(frozen=True)
class _Timed:
    seconds: float
    with_spin_seconds: float
    host_late: bool
    """Whether the spin had ended before all of the work was enqueued."""


def _time(work: Callable[[], object], spin_cycles: int) -> _Timed:
    """`work`, enqueued while the device spins."""
    import torch

    first, start, end = (torch.cuda.Event(enable_timing=True) for _ in range(3))
    first.record()
    torch.cuda._sleep(spin_cycles)
    start.record()
    work()
    late = start.query()
    end.record()
    end.synchronize()
    return _Timed(start.elapsed_time(end) / 1e3, first.elapsed_time(end) / 1e3, late)


def disagreement(event_seconds: float, wall_seconds: float) -> str | None:
    """Why a sample can't be trusted: its wall time differs from its event time by more than 5 % and 50 us.

    The 50 us are the enqueueing and the wake-up after the last event, which only the wall clock sees.
    """
    if event_seconds <= 0:
        return NEVER_ADVANCED
    if abs(wall_seconds - event_seconds) <= max(CLOCKS_DISAGREE_ABOVE * event_seconds, 50e-6):
        return None
    return f"event time {event_seconds * 1e3:.3f} ms, wall time {wall_seconds * 1e3:.3f} ms"
