"""How the fastest configuration is found, and when it is believed.

Screening: every configuration's result is checked, then it is timed against the default, R A R, for a short while.
Confirming: the few fastest are measured again, on fresh data, four times as long and twice as precisely, and what
those timed launches wrote is checked. Only that second measurement counts: of many noisy first readings the best is
mostly lucky. Its intervals hold together at 95 % (each at 1 - 5 %/m for m configurations), and one that does not
clear 1 by the margin keeps the default.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
import random
from typing import Literal, Protocol

from roofprobe.errors import RoofprobeError
from roofprobe.measurement import IMPOSSIBLE_ABOVE, Timing
from roofprobe.probes.tune_journal import Journal, Tried
from roofprobe.robust import median
from roofprobe.timing import Launch, Limits, PreparedCase, Stopwatch, measure
from roofprobe.tuned import ConfigFields

Phase = Literal["screen", "confirm"]

FINALISTS = 3
CONFIRM_TIMES = 4
ERROR_RATE = 0.05
SEEDS: dict[Phase, int] = {"screen": 0x7A3D, "confirm": 0x51C9}


class DefaultFails(RoofprobeError):
    """The default configuration can't run or its result is wrong: there is nothing to compare with."""


@dataclass(frozen=True)
class Trial:
    """One configuration, ready to run on its workload."""

    launch: Launch
    poison: Callable[[], object]
    count_wrong: Callable[[], int]
    """Checks every output that was launched into."""
    stopwatch: Stopwatch


class Workload(Protocol):
    """Operands that every configuration of a subject runs on; the default's outputs are its own."""

    def trial(self, config: ConfigFields, is_default: bool) -> Trial:
        """Raises ValueError or RuntimeError for a configuration that can't run."""
        ...


@dataclass(frozen=True)
class Subject:
    """What is tuned: its name, its configurations with the default first, and how to make its operands."""

    name: str
    space: Sequence[ConfigFields]
    open: Callable[[int], Workload]
    """Seed -> fresh operands."""
    limits: Limits
    """Of one screening measurement."""
    margin: float
    fastest_seconds: float = 0.0
    """Less than this is impossible: more than the memory's nominal ceiling."""
    cannot_run: tuple[type[Exception], ...] = (ValueError, RuntimeError)
    """What a configuration raises that this device or its compiler can't run."""

    @property
    def key(self) -> str:
        """What measurements of it can be reused for."""
        return f"{self.name}, {self.limits.seconds:g} s"


@dataclass(frozen=True)
class Outcome:
    """The best configuration of a subject, and whether it is to be used."""

    best: Tried
    """In the confirming phase; the default, timed alone, where nothing was faster."""
    interval: tuple[float, float] | None
    keep_default: bool
    rejected: tuple[Tried, ...]
    """What can't run or computed something wrong."""


@dataclass
class _Bench:
    """The operands of one phase, made when the first measurement needs them."""

    subject: Subject
    journal: Journal
    phase: Phase
    limits: Limits
    _made: list[tuple[Workload, Trial]] = field(default_factory=list)

    def tried(self, config: ConfigFields) -> Tried:
        """From the journal, or measured now and put there."""
        known = self.journal.find(self.subject.key, self.phase, config)
        if known is not None:
            return known
        timing, wrong, problem = self._measured(config)
        found = Tried(
            binding=self.journal.binding,
            subject=self.subject.key,
            phase=self.phase,
            config=config,
            timing=timing,
            wrong=wrong,
            problem=problem,
        )
        if timing is not None or wrong:  # what could not run may have lacked memory for once: it is tried again
            self.journal.add(found)
        return found

    def _measured(self, config: ConfigFields) -> tuple[Timing | None, int, str | None]:
        workload, default = self._operands()
        if config == self.subject.space[0]:
            return measure(default.launch, default.stopwatch, self.limits, poison=default.poison), 0, None
        try:
            trial = workload.trial(config, False)
            if wrong := _first_result(trial):
                return None, wrong, f"{wrong} elements wrong"
            timing = measure(trial.launch, _Each(trial, default), self.limits, default.launch, trial.poison)
        except self.subject.cannot_run as error:
            return None, 0, _cannot_run(error)
        wrong = trial.count_wrong() if self.phase == "confirm" else 0
        if wrong:
            return timing, wrong, f"{wrong} elements wrong"
        if median(timing.accepted) < self.subject.fastest_seconds:
            return timing, 0, f"above {IMPOSSIBLE_ABOVE:.0%} of the nominal ceiling: cached or miscounted"
        return timing, 0, None

    def _operands(self) -> tuple[Workload, Trial]:
        if not self._made:
            try:
                workload = self.subject.open(SEEDS[self.phase])
                default = workload.trial(self.subject.space[0], True)
                wrong = _first_result(default)
            except self.subject.cannot_run as error:
                raise DefaultFails(f"{self.subject.name}: the default configuration {_cannot_run(error)}") from error
            if wrong:
                raise DefaultFails(f"{self.subject.name}: the default configuration gives {wrong} wrong elements")
            self._made.append((workload, default))
        return self._made[0]


class _Each:
    """Gives a configuration and the default each its own stopwatch: on a host they may use unequal numbers of CPUs."""

    def __init__(self, case: Trial, reference: Trial) -> None:
        self.clock = case.stopwatch.clock
        self._stopwatches = {case.launch: case.stopwatch, reference.launch: reference.stopwatch}

    def prepare(self, launch: Launch) -> PreparedCase:
        stopwatch = self._stopwatches[launch]
        prepared = stopwatch.prepare(launch)
        self.clock = stopwatch.clock  # known for sure only now: not everything can be captured in a CUDA graph
        return prepared


def _cannot_run(error: Exception) -> str:
    return f"can't run: {' '.join(str(error).split())[:200]}"


def _first_result(trial: Trial) -> int:
    trial.poison()
    trial.launch(0)
    return trial.count_wrong()


def find_best(subject: Subject, journal: Journal, on_step: Callable[[str], None]) -> Outcome:
    """Screens and confirms one subject; what the journal holds is not measured again.

    Raises DefaultFails where the default configuration can't run or its own result is wrong.
    """
    default, *challengers = subject.space
    random.Random(subject.name).shuffle(challengers)  # so that drift does not favour a corner of the space
    screened = _in_turn(_Bench(subject, journal, "screen", subject.limits), challengers, on_step)
    # The first bench is gone by now, and its operands with it: the second one's take their place in the memory.
    limits = Limits(subject.limits.precision / 2, CONFIRM_TIMES * subject.limits.seconds, subject.limits.min_samples)
    bench = _Bench(subject, journal, "confirm", limits)
    fastest = sorted((tried for tried in screened if tried.speedup > 1), key=lambda tried: -tried.speedup)[:FINALISTS]
    confirmed = _in_turn(bench, [tried.config for tried in fastest], on_step)
    rejected = tuple(tried for tried in (*screened, *confirmed) if tried.problem is not None)
    sound = [tried for tried in confirmed if tried.problem is None]
    if not sound:
        (alone,) = _in_turn(bench, [default], on_step)
        return Outcome(alone, None, True, rejected)
    confidence = 1 - ERROR_RATE / len(confirmed)
    winners = [tried for tried in sound if _clears(tried, confidence, subject.margin)]
    best = max(winners or sound, key=lambda tried: tried.speedup)
    return Outcome(best, best.interval(confidence), not winners, rejected)


def _in_turn(bench: _Bench, configs: Sequence[ConfigFields], on_step: Callable[[str], None]) -> list[Tried]:
    found = []
    for i, config in enumerate(configs, start=1):
        on_step(f"{bench.subject.name}: {bench.phase} {i} of {len(configs)}: {config_text(config)}")
        found.append(bench.tried(config))
    return found


def _clears(tried: Tried, confidence: float, margin: float) -> bool:
    assert tried.timing is not None
    interval = tried.interval(confidence)
    return not tried.timing.contended and interval is not None and interval[0] > 1 + margin


def config_text(config: ConfigFields) -> str:
    """``warps=4 row_groups=2``: a configuration for people."""
    return " ".join(f"{name}={value}" for name, value in config.items())
