"""The latency of an all-reduce at every size in every mode, and what the start times say of ranks and links."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

from roofprobe.arguments import size_text
from roofprobe.collectives.exact import Pattern
from roofprobe.collectives.latency import cuda_stopwatch, host_stopwatch, take
from roofprobe.collectives.latency_clock import Clock, round_trips_us, synchronized
from roofprobe.collectives.latency_modes import PIPELINE, Missing, Mode, count_wrong, modes, prepare
from roofprobe.collectives.latency_plan import LatencyPlan
from roofprobe.collectives.latency_statistics import Arrivals, findings, rank_latencies, samples_us
from roofprobe.collectives.process_group import Group
from roofprobe.latency_record import LatencyPoint

Load = Callable[[], AbstractContextManager[Callable[[], str]]]
"""Streams memory while its block runs; what the block gets tells in words what was streamed so far, and by what."""

SEED = 40_000


class LatencySweep:
    """One sweep under way. Everything that it yields and tells is the same on every rank.

    Names its phases to the group's watch. torch's RuntimeError, where a peer has gone or stays away, goes through.
    """

    def __init__(self, plan: LatencyPlan, pattern: Pattern, group: Group, load: Load | None = None) -> None:
        self._plan = plan
        self._pattern = pattern
        self._group = group
        self._load = load
        self._isolated: list[Arrivals] = []
        self._round_trips: dict[tuple[int, int], float] = {}
        self._checks = 0

    def points(self) -> Iterator[LatencyPoint]:
        """Measures every size in every mode; a mode that can't be had is a point without samples."""
        enter = self._group.watch.enter
        enter("latency, comparing the ranks' clocks")
        clock = synchronized(self._group)
        enter("latency, round trips of the pairs of ranks")
        self._round_trips = round_trips_us(self._group)
        element = self._pattern.dtype.bytes
        for n_bytes in [size // element * element for size in self._plan.sizes if size >= element]:
            enter(f"latency, preparing {size_text(n_bytes)}")
            for mode in modes(self._pattern, n_bytes // element, self._group):
                if isinstance(mode, Missing):
                    yield _absent(mode, n_bytes, mode.reason)
                elif mode.name == "loaded" and self._load is None:
                    yield _absent(mode, n_bytes, "no load was given")
                else:
                    enter(f"latency {mode.name} of {size_text(n_bytes)}")
                    point, clock = self._point(mode, n_bytes, clock)
                    yield point

    def findings(self) -> list[str]:
        """What can be said of the ranks and links after the last point."""
        return findings(self._isolated, self._round_trips, self._group.ranks) if self._isolated else []

    def _point(self, mode: Mode, n_bytes: int, clock: Clock) -> tuple[LatencyPoint, Clock]:
        note = None
        under = self._load() if mode.name == "loaded" and self._load is not None else nullcontext()
        with under as streamed:
            arrivals, clock = take(mode.launch, self._group, clock, self._plan.limits(mode.name, mode.operations))
            wrong = self._check(mode)
            if streamed is not None:
                note = streamed()
        if mode.name == "isolated":
            self._isolated.append(arrivals)
        point = LatencyPoint(
            bytes=n_bytes,
            mode=mode.name,
            operations=mode.operations,
            samples_us=samples_us(arrivals, mode.operations),
            ranks=rank_latencies(arrivals, mode.operations),
            clock_us=round(arrivals.clock_us, 1),
            rank_wrong=wrong,
            note=note,
        )
        return point, clock

    def _check(self, mode: Mode) -> tuple[int, ...]:
        self._checks += 1
        seed = SEED + PIPELINE * self._checks
        prepare(mode, self._group.rank, seed)
        stopwatch = cuda_stopwatch() if self._group.device.type == "cuda" else host_stopwatch
        stopwatch(mode.launch)
        wrong = self._group.gather([float(count_wrong(mode, seed))])
        return tuple(int(values[0]) for values in wrong)


def _absent(mode: Mode | Missing, n_bytes: int, reason: str) -> LatencyPoint:
    return LatencyPoint(bytes=n_bytes, mode=mode.name, operations=mode.operations, note=reason)
