"""CUDA's half of the timing protocol: events around a captured batch of launches.

One launch of a decode GEMV lasts tens of microseconds, less than a host needs to enqueue it, so a sample is a CUDA
graph of enough launches to last `min_seconds`; the graph's own start-up (about 10 us) is then under 1 % of it. Where
an operation can't be captured, the launches are enqueued behind a spin kernel, so that the device never waits for the
host, and the record's clock says ``cuda-event``. A sample counts only if the wall clock agrees with the events.
"""

from __future__ import annotations

import time
from typing import Any

from roofprobe.errors import CannotMeasure
from roofprobe.timing import Launch, PreparedCase, Sample

CLOCKS_DISAGREE_ABOVE = 0.05
MIN_SECONDS = 2e-3
MAX_LAUNCHES = 512
"""Launches a sample; below the 1024 that a stream queues before the host blocks."""
SPIN_CYCLES_PER_LAUNCH = 40_000
"""About 20 us at 2 GHz: longer than the host takes to enqueue one Triton launch (8 to 15 us)."""


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
        once = _event_seconds(lambda: launch(3))
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

    def sample(self) -> Sample:
        start = time.perf_counter()
        seconds = _event_seconds(self._graph.replay)
        wall = time.perf_counter() - start
        return Sample(seconds / self.launches_per_sample, disagreement(seconds, wall))


class _QueuedCase:
    def __init__(self, launch: Launch, launches: int) -> None:
        self.launches_per_sample = launches
        self._launch = launch
        self._count = 4

    def sample(self) -> Sample:
        import torch

        def batch() -> None:
            for _ in range(self.launches_per_sample):
                self._launch(self._count)
                self._count += 1

        torch.cuda._sleep(SPIN_CYCLES_PER_LAUNCH * self.launches_per_sample)
        # The wall clock would count the spin: what it can still catch is events that never advanced.
        seconds = _event_seconds(batch)
        return Sample(seconds / self.launches_per_sample, "events did not advance" if seconds <= 0 else None)


def _event_seconds(work: Any) -> float:
    import torch

    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    work()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3


def disagreement(event_seconds: float, wall_seconds: float) -> str | None:
    """Why a sample can't be trusted: its wall time differs from its event time by more than 5 % and 50 us.

    The 50 us are the enqueueing and the wake-up after the last event, which only the wall clock sees.
    """
    if event_seconds <= 0:
        return "events did not advance"
    if abs(wall_seconds - event_seconds) <= max(CLOCKS_DISAGREE_ABOVE * event_seconds, 50e-6):
        return None
    return f"event time {event_seconds * 1e3:.3f} ms, wall time {wall_seconds * 1e3:.3f} ms"
