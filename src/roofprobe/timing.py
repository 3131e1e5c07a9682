"""The one timing protocol, for device and host.

A case is paired with a reference of the same kind where it has one: R A R A … R, so that each sample of A stands
between two of R, and a machine that slows down slows both. A pair counts if its two references agree within 8 %.
Samples are taken until the 95 % interval of the median (of the paired ratio, where there is a reference) is as narrow
as asked, or until the time is up, which the record says.

Two stopwatches: `HostStopwatch` reads the monotonic clock and rejects a sample that had to share its CPUs;
`device_timing.DeviceStopwatch` takes CUDA events around a captured batch of launches and rejects a sample whose event
time and wall time disagree.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
import os
import time
from typing import Literal, Protocol

from roofprobe.measurement import Timing
from roofprobe.robust import median, median_interval

Launch = Callable[[int], object]
"""Runs the case once; the argument counts the launches, so that buffers can be rotated by it."""

REFERENCES_DIFFER_ABOVE = 0.08
ON_CPU_AT_LEAST = 0.9
"""Least share of its CPUs' time that a host sample must have had: below it the sample times the scheduler. Run-queue
delays can't tell: on two CPUs the launching thread waits for one while both workers run, and nothing is lost."""


@dataclass(frozen=True)
class Sample:
    """One reading: seconds a launch, and why it does not count, if it does not."""

    seconds: float
    problem: str | None = None


class Stopwatch(Protocol):
    """Times a batch of launches of one case."""

    clock: str

    def prepare(self, launch: Launch) -> PreparedCase:
        """Warms the case up and decides how many launches make one sample."""
        ...


class PreparedCase(Protocol):
    """A case that is ready to be timed."""

    launches_per_sample: int

    def sample(self) -> Sample:
        """Takes one reading."""
        ...


@dataclass(frozen=True)
class Limits:
    """When to stop: at an interval of +- `precision` of the median, after `seconds`, or at `max_samples`."""

    precision: float
    seconds: float
    min_samples: int = 7
    max_samples: int = 2000

    def scaled(self, factor: float) -> Limits:
        """The same precision with `factor` times the time."""
        return Limits(self.precision, self.seconds * factor, self.min_samples, self.max_samples)


DEVICE_PRECISION = 0.01
HOST_PRECISION = 0.02


def measure(
    case: Launch,
    stopwatch: Stopwatch,
    limits: Limits,
    reference: Launch | None = None,
    poison: Callable[[], object] | None = None,
) -> Timing:
    """Times `case`, paired with `reference` where there is one, by the protocol above.

    `poison` spoils the outputs between warm-up and timing, so that a check afterwards sees what the timed launches
    wrote. Every sample is in the result, with the reason beside each one that is not counted. At least `min_samples`
    are taken, however long that lasts.
    """
    prepared = stopwatch.prepare(case)
    paired = None if reference is None else stopwatch.prepare(reference)
    if poison is not None:
        poison()
    seconds: list[float] = []
    references: list[float] = []
    rejected: dict[int, str] = {}
    deadline = time.perf_counter() + limits.seconds
    before = None if paired is None else paired.sample()
    while True:
        reading = prepared.sample()
        problem = reading.problem
        if paired is not None and before is not None:
            after = paired.sample()
            problem = problem or before.problem or after.problem or _disagreement(before.seconds, after.seconds)
            references.append((before.seconds + after.seconds) / 2)
            before = after
        if problem is not None:
            rejected[len(seconds)] = problem
        seconds.append(reading.seconds)
        stopped_by = _stop(seconds, references, rejected, limits, deadline)
        if stopped_by is not None:
            break
    return Timing(
        clock=stopwatch.clock,
        seconds=tuple(seconds),
        reference_seconds=tuple(references),
        rejected=rejected,
        launches_per_sample=prepared.launches_per_sample,
        stopped_by=stopped_by,
    )


def _disagreement(before: float, after: float) -> str | None:
    difference = abs(before - after) / min(before, after)
    if difference <= REFERENCES_DIFFER_ABOVE:
        return None
    return f"references differ by {difference:.0%}"


def _stop(
    seconds: list[float], references: list[float], rejected: dict[int, str], limits: Limits, deadline: float
) -> Literal["interval", "time-limit", "sample-limit"] | None:
    if len(seconds) < limits.min_samples:
        return None
    if time.perf_counter() >= deadline:
        return "time-limit"
    if len(seconds) >= limits.max_samples:
        return "sample-limit"
    kept = [i for i in range(len(seconds)) if i not in rejected]
    values = [references[i] / seconds[i] if references else seconds[i] for i in kept]
    bounds = median_interval(values)
    if bounds is None or bounds[1] - bounds[0] > 2 * limits.precision * median(values):
        return None
    return "interval"


class HostStopwatch:
    """The monotonic clock, and the share of the CPUs' time that the process really had.

    A launch shorter than `min_seconds` is repeated until a sample is that long, so that the clock's and the thread
    pool's own cost (50 to 150 us a launch on a shared 2-CPU machine) stays near 1 % of it. The cases are kernels that
    keep every CPU busy that the process may use; a sample in which they had less than 90 % of those CPUs' time was
    shared with other work. `cpus`: how many the case keeps busy, where it is not all of them.
    """

    clock = "perf-counter"

    def __init__(self, min_seconds: float = 0.01, cpus: int | None = None) -> None:
        self._min_seconds = min_seconds
        self.cpus = cpus

    def prepare(self, launch: Launch) -> PreparedCase:
        launch(0)
        start = time.perf_counter()
        launch(1)
        once = time.perf_counter() - start
        return _HostCase(launch, max(1, round(self._min_seconds / max(once, 1e-7))), self.cpus)


class _HostCase:
    def __init__(self, launch: Launch, launches_per_sample: int, cpus: int | None) -> None:
        self.launches_per_sample = launches_per_sample
        self._launch = launch
        self._cpus = cpus
        self._count = 2

    def sample(self) -> Sample:
        cpus = self._cpus or len(os.sched_getaffinity(0))
        busy = time.process_time()
        start = time.perf_counter()
        for _ in range(self.launches_per_sample):
            self._launch(self._count)
            self._count += 1
        elapsed = time.perf_counter() - start
        share = (time.process_time() - busy) / (elapsed * cpus)
        problem = f"had {share:.0%} of the CPUs" if share < ON_CPU_AT_LEAST else None
        return Sample(elapsed / self.launches_per_sample, problem)
