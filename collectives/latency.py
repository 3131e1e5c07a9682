"""Takes latency samples: all ranks start together at agreed moments, and each notes its own start and end.

What a sample is: the ranks wait, each on its own clock, for a moment that all have agreed on, then launch at once.
From every rank come two times, `late` (its start after that moment, on rank 0's clock) and `own` (its start to its
end); latency_statistics makes the operation's latency from them, in which no late start counts.

On gloo `own` is read off the host's clock around the call: torch's dispatch, about 15 us, is in it. On a GPU it is
between two CUDA events on an idle stream: the host's launch is in it too unless a graph is replayed, since the first
event fires at once. Before each sample the ranks meet, so the network is idle when it begins.
"""

from __future__ import annotations

from collections.abc import Callable
import time
from typing import TYPE_CHECKING

import numpy as np

from roofprobe.collectives.latency_clock import Clock, Meeting, synchronized, wait_until
from roofprobe.collectives.latency_plan import Limits
from roofprobe.collectives.latency_statistics import Arrivals
from roofprobe.collectives.process_group import Group

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Launch = Callable[[], None]
    Stopwatch = Callable[[Launch], tuple[int, float]]
    """Runs a launch to its end; when it began on this rank's clock and its own time, both in ns."""

WARM_UP = 5
"""Launches before the first sample, so that connections and buffers are there."""


def take(launch: Launch, group: Group, clock: Clock, limits: Limits) -> tuple[Arrivals, Clock]:
    """All ranks' samples, the same on every rank, and the clocks as compared after the last one.

    Raises RuntimeError, torch's own, where a peer has gone or stays away beyond the group's timeout.
    """
    stopwatch = cuda_stopwatch() if group.device.type == "cuda" else host_stopwatch
    for _ in range(WARM_UP):
        stopwatch(launch)
    meeting = Meeting(group, clock)
    began_ns: list[int] = []
    late: list[float] = []
    own: list[float] = []
    deadline = None if limits.seconds is None else time.perf_counter() + limits.seconds
    while True:
        enough = len(own) >= limits.samples or (own != [] and deadline is not None and time.perf_counter() > deadline)
        moment, stop = meeting.agree(stop=enough and group.rank == 0)
        if stop:
            break
        wait_until(moment)
        began, took = stopwatch(launch)
        began_ns.append(began)
        late.append(began - moment)
        own.append(took)
    after = clock if clock.shared else synchronized(group)
    everyone = np.array(group.gather([*_on_rank_0s_clock(late, began_ns, clock, after), *own])) / 1e3
    late_us, own_us = np.split(everyone, 2, axis=1)
    return Arrivals(late_us, own_us, after.uncertainty_ns / 1e3), after


def _on_rank_0s_clock(late: list[float], began_ns: list[int], before: Clock, after: Clock) -> NDArray[np.float64]:
    """`late` without what this rank's clock has drifted since the moments were first converted."""
    drift = after.offset_ns - before.offset_ns
    elapsed = (np.array(began_ns) - before.at_ns) / max(1, after.at_ns - before.at_ns)
    return np.array(late) - drift * elapsed


def host_stopwatch(launch: Launch) -> tuple[int, float]:
    """For operations that have ended when their call returns."""
    began = time.perf_counter_ns()
    launch()
    return began, float(time.perf_counter_ns() - began)


def cuda_stopwatch() -> Stopwatch:
    """For operations on the current CUDA stream. It waits for its own event, not for other streams of the device.

    Written against torch's interface, and never run on a GPU so far.
    """
    import torch

    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def time_on_stream(launch: Launch) -> tuple[int, float]:
        began = time.perf_counter_ns()
        start.record()
        launch()
        end.record()
        end.synchronize()
        return began, start.elapsed_time(end) * 1e6

    return time_on_stream
