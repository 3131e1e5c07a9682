"""A sustained load on one side, with sentinels before, during and after it.

The load is a sentinel too: the matrix product on a GPU (the most power), the GEMV on a CPU (all of its memory's rate).
Its stretches of a second are cut by a short run of each of the others, so that a machine which slows down, stalls or
starts to answer wrongly does so in the records, second by second. A sentinel that runs during a load finds the clocks,
the heat and the power limit of the load, and the side to itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Event
import time
from typing import TYPE_CHECKING

from roofprobe.load_record import BF16_FLOPS_PER_CYCLE, MatmulRate, Phase, SentinelRun
from roofprobe.measurement import Environment
from roofprobe.probes.sentinel_cases import SentinelCase, sentinel_stopwatch
from roofprobe.telemetry import SentinelResult
from roofprobe.timing import Limits, PreparedCase, Sample, measure

if TYPE_CHECKING:
    from roofprobe.probes.sides import MeasuredSide
    from roofprobe.telemetry_sampler import Sampler

STRETCH_SECONDS = 1.0
SAMPLES = 7
"""Undisturbed ones of each sentinel in a turn: an interval of the median needs six."""
MOST_SAMPLES = 2 * SAMPLES
"""Of a sentinel in a turn on a machine that is shared."""

CLOCKED_SAMPLES = 50
"""Of the product beside its clock: a second, in which NVML is asked ten times."""


@dataclass(frozen=True)
class LoadedSide:
    """A side with its sentinels, warm and ready."""

    side: MeasuredSide
    cases: Sequence[SentinelCase]
    prepared: Sequence[PreparedCase]
    sampler: Sampler
    on_record: Callable[[SentinelRun], None]
    in_telemetry: bool
    """Whether its results go beside the samples: the GPU's do, and the CPU's where there is no GPU. What it reaches
    beside the other side's load does not: that is no state of the unit."""

    @property
    def load(self) -> int:
        """Which of the cases is the load."""
        names = [case.name for case in self.cases]
        return names.index("matmul" if self.side.side == "device" and "matmul" in names else "gemv")

    def named(self, name: str) -> SentinelCase | None:
        return next((case for case in self.cases if case.name == name), None)


def prepare(
    side: MeasuredSide,
    cases: Sequence[SentinelCase],
    sampler: Sampler,
    on_record: Callable[[SentinelRun], None],
    in_telemetry: bool,
) -> LoadedSide:
    """Warms every sentinel up, which compiles its kernel and captures its graph: not in a thread beside another's."""
    prepared = [sentinel_stopwatch(side).prepare(case.launch) for case in cases]
    return LoadedSide(side, cases, prepared, sampler, on_record, in_telemetry)


def every_sentinel(loaded: LoadedSide, phase: Phase) -> None:
    """Each sentinel once, its result checked in full."""
    for index in range(len(loaded.cases)):
        _run(loaded, index, phase, beside=None, seconds=0)


def sustain(loaded: LoadedSide, seconds: float, beside: str | None = None, stop: Event | None = None) -> None:
    """The load for `seconds` or until `stop`; after every stretch of it each of the other sentinels once."""
    end = time.perf_counter() + seconds
    while (left := end - time.perf_counter()) > 0 and not (stop is not None and stop.is_set()):
        _run(loaded, loaded.load, "during", beside, min(STRETCH_SECONDS, left))
        for index in range(len(loaded.cases)):
            if index != loaded.load:
                _run(loaded, index, "during", beside, seconds=0)


def _run(loaded: LoadedSide, index: int, phase: Phase, beside: str | None, seconds: float) -> None:
    """One run: `SAMPLES` undisturbed samples or `MOST_SAMPLES` in all, and as many more as `seconds` hold."""
    case, prepared, side = loaded.cases[index], loaded.prepared[index], loaded.side
    case.poison()
    t_s = loaded.sampler.now()
    end = time.perf_counter() + seconds
    samples: list[Sample] = []
    while time.perf_counter() < end or _too_few(samples):
        samples.append(prepared.sample())
    run = SentinelRun(
        sentinel=case.name,
        phase=phase,
        t_s=t_s,
        side=side.side,
        memory=side.memory,
        backend=case.backend,
        beside=beside,
        seconds=tuple(sample.seconds for sample in samples),
        rejected={i: sample.problem for i, sample in enumerate(samples) if sample.problem is not None},
        bytes=case.bytes,
        flops=case.flops,
        nominal_gb_per_s=side.nominal_gb_per_s,
        # A result that differs from the right one by rounding alone is not wrong, which only the full check can tell.
        wrong=0 if phase == "during" and case.unchanged() else case.count_wrong(),
    )
    if loaded.in_telemetry and beside is None:
        rates = {"gb_per_s": run.gb_per_s, "tflop_per_s": run.tflop_per_s}
        loaded.sampler.result(SentinelResult(t_s=t_s, sentinel=case.name, side=side.side, **rates))
    loaded.on_record(run)


def _too_few(samples: Sequence[Sample]) -> bool:
    undisturbed = sum(sample.problem is None for sample in samples)
    return undisturbed < SAMPLES and len(samples) < MOST_SAMPLES


def matmul_rate(loaded: LoadedSide, environment: Environment, seconds: float) -> MatmulRate | None:
    """The product's rate and the SM clock that it had meanwhile; None on a side that has no product."""
    case = loaded.named("matmul")
    if case is None or case.size is None:
        return None
    side = loaded.side
    start = loaded.sampler.now()
    on_device = side.side == "device"
    limits = Limits(side.precision, seconds, min_samples=CLOCKED_SAMPLES if on_device else SAMPLES)
    timing = measure(case.launch, sentinel_stopwatch(side), limits, poison=case.poison)
    clocks = loaded.sampler.sm_clocks_mhz(start, loaded.sampler.now())
    described = environment.devices[0] if on_device else None
    return MatmulRate(
        side=side.side,
        processor=environment.cpu_model if described is None else described.name,
        backend=case.backend,
        m=case.size,
        n=case.size,
        k=case.size,
        timing=timing,
        sm_clock_mhz=clocks if on_device else (),
        multiprocessors=None if described is None else described.multiprocessors,
        flops_per_cycle=None if described is None else BF16_FLOPS_PER_CYCLE.get(described.compute_capability),
        wrong=case.count_wrong(),
        note=None if on_device else "the CPU's, never a GPU's",
    )
