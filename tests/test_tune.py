"""The tuner's search, on a machine whose every time is written down beforehand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from roofprobe.probes.tune_journal import Journal
from roofprobe.probes.tune_search import SEEDS, DefaultFails, Outcome, Subject, Trial, find_best
from roofprobe.timing import Launch, Limits, Sample
from roofprobe.tuned import ConfigFields

DEFAULT = "default"
Times = float | list[float]


@dataclass
class Machine:
    """What each configuration takes when screened and when confirmed, and what is wrong with it."""

    screen: dict[str, Times]
    confirm: dict[str, Times] = field(default_factory=dict)
    wrong: set[str] = field(default_factory=set)
    wrong_later: set[str] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)
    disturbed: set[str] = field(default_factory=set)
    interrupt_at: tuple[str, str] | None = None
    timed: list[tuple[str, str]] = field(default_factory=list)
    """(phase, configuration) in the order in which stopwatches were prepared for others than the default."""

    def open(self, seed: int) -> OnMachine:
        return OnMachine(self, next(phase for phase, s in SEEDS.items() if s == seed))

    def subject(self, **changes: Any) -> Subject:
        fields: dict[str, Any] = {
            "name": "device gemv bf16 8x8 b1",
            "space": [{"name": name} for name in self.screen],
            "open": self.open,
            # Nine samples of any spread, so that a median's interval is the second smallest to the second largest at
            # 95 %, and the smallest to the largest at 98.3 %.
            "limits": Limits(precision=100, seconds=60, min_samples=9),
            "margin": 0.02,
        }
        return Subject(**{**fields, **changes})


@dataclass
class OnMachine:
    machine: Machine
    phase: str

    def trial(self, config: ConfigFields, is_default: bool) -> Trial:
        name = str(config["name"])
        assert is_default == (name == DEFAULT)
        if name in self.machine.broken:
            raise RuntimeError("out of resource: shared memory,\n Required: 300000")
        launches: list[int] = []

        def count_wrong() -> int:
            assert launches, "checked before anything ran"
            return 5 if name in self.machine.wrong or (name in self.machine.wrong_later and len(launches) > 1) else 0

        return Trial(launches.append, list, count_wrong, Stopwatch(self.machine, self.phase, name))


@dataclass
class Stopwatch:
    machine: Machine
    phase: str
    name: str
    clock: str = "script"

    def prepare(self, launch: Launch) -> Readings:
        if self.name != DEFAULT:
            if (self.phase, self.name) == self.machine.interrupt_at:
                raise KeyboardInterrupt
            self.machine.timed.append((self.phase, self.name))
        launch(1)
        times = self.machine.screen[self.name]
        if self.phase == "confirm":
            times = self.machine.confirm.get(self.name, times)
        return Readings(cycle(times if isinstance(times, list) else [times]), self.name in self.machine.disturbed)


@dataclass
class Readings:
    times: cycle[float]
    disturbed: bool
    launches_per_sample: int = 1

    def sample(self) -> Sample:
        return Sample(next(self.times), "had 40% of the CPUs" if self.disturbed else None)


@pytest.fixture
def tune(tmp_path: Path) -> Callable[..., Outcome]:
    def run(machine: Machine, bound_to: str = "this machine", **changes: Any) -> Outcome:
        with Journal(tmp_path / "p.json.tuning.jsonl", bound_to) as journal:
            return find_best(machine.subject(**changes), journal, print)

    return run


def test_the_fastest_wins_by_its_paired_gain(tune: Callable[..., Outcome]) -> None:
    machine = Machine({DEFAULT: 10, "slow": 12, "fast": 8, "faster": 7.5, "little": 9.9})
    outcome = tune(machine)
    assert outcome.best.config == {"name": "faster"} and not outcome.keep_default
    assert outcome.best.speedup == pytest.approx(10 / 7.5)
    assert outcome.interval == pytest.approx((10 / 7.5, 10 / 7.5))
    assert sorted(name for phase, name in machine.timed if phase == "screen") == ["fast", "faster", "little", "slow"]
    assert [name for phase, name in machine.timed if phase == "confirm"] == ["faster", "fast", "little"]


def test_a_gain_within_the_margin_keeps_the_default(tune: Callable[..., Outcome]) -> None:
    outcome = tune(Machine({DEFAULT: 10, "even": 10, "hardly": 9.85}))
    assert outcome.keep_default and outcome.best.config == {"name": "hardly"}
    assert outcome.best.speedup == pytest.approx(10 / 9.85)
    assert not tune(Machine({DEFAULT: 10, "clearly": 9.75})).keep_default


def test_nothing_faster_times_the_default_alone(tune: Callable[..., Outcome]) -> None:
    outcome = tune(Machine({DEFAULT: 10, "slow": 11, "even": 10}))
    assert outcome.keep_default and outcome.best.config == {"name": DEFAULT} and outcome.interval is None
    assert outcome.best.timing is not None and set(outcome.best.timing.seconds) == {10}


def test_luck_in_screening_does_not_win(tune: Callable[..., Outcome]) -> None:
    outcome = tune(Machine({DEFAULT: 10, "lucky": 5, "steady": 9}, confirm={"lucky": 10}))
    assert outcome.best.config == {"name": "steady"} and not outcome.keep_default
    assert tune(Machine({DEFAULT: 10, "lucky alone": 5}, confirm={"lucky alone": 10})).keep_default


def test_the_interval_allows_for_every_configuration_that_was_confirmed(tune: Callable[..., Outcome]) -> None:
    """One bad reading of nine is outside a 95 % interval of the median, and inside the 98.3 % that three share."""
    one_bad = [9.0] * 8 + [10.5]
    assert not tune(Machine({DEFAULT: 10, "alone": one_bad})).keep_default
    outcome = tune(Machine({DEFAULT: 10, "one": one_bad, "of": one_bad, "three": one_bad}))
    assert outcome.keep_default
    assert outcome.interval == pytest.approx((10 / 10.5, 10 / 9))


def test_a_wrong_result_is_never_timed(tune: Callable[..., Outcome]) -> None:
    machine = Machine({DEFAULT: 10, "wrong": 1, "fast": 8}, wrong={"wrong"})
    outcome = tune(machine)
    assert outcome.best.config == {"name": "fast"}
    assert [(t.config, t.wrong, t.problem, t.timing) for t in outcome.rejected] == [
        ({"name": "wrong"}, 5, "5 elements wrong", None)
    ]
    assert "wrong" not in {name for _, name in machine.timed}


def test_what_the_timed_launches_wrote_is_checked(tune: Callable[..., Outcome]) -> None:
    outcome = tune(Machine({DEFAULT: 10, "wrong at times": 1, "fast": 8}, wrong_later={"wrong at times"}))
    assert outcome.best.config == {"name": "fast"} and not outcome.keep_default
    assert [t.phase for t in outcome.rejected] == ["confirm"]
    assert tune(Machine({DEFAULT: 10, "wrong again": 1}, wrong_later={"wrong again"})).best.config == {"name": DEFAULT}


def test_a_default_that_fails_leaves_nothing_to_compare_with(tune: Callable[..., Outcome]) -> None:
    with pytest.raises(DefaultFails, match="gemv bf16 8x8 b1: the default configuration gives 5 wrong elements"):
        tune(Machine({DEFAULT: 10, "fast": 8}, wrong={DEFAULT}))
    with pytest.raises(DefaultFails, match="the default configuration can't run: out of resource"):
        tune(Machine({DEFAULT: 10, "fast": 8}, broken={DEFAULT}))


def test_what_can_not_run_is_left_out_and_tried_again_next_time(tune: Callable[..., Outcome]) -> None:
    screen: dict[str, Times] = {DEFAULT: 10, "large": 1, "fast": 8}
    outcome = tune(Machine(screen, broken={"large"}))
    assert outcome.best.config == {"name": "fast"}
    assert [t.problem for t in outcome.rejected] == ["can't run: out of resource: shared memory, Required: 300000"]
    assert tune(Machine(screen)).best.config == {"name": "large"}


def test_faster_than_the_memory_is_impossible(tune: Callable[..., Outcome]) -> None:
    outcome = tune(Machine({DEFAULT: 10, "cached": 2, "fast": 8}), fastest_seconds=3.0)
    assert outcome.best.config == {"name": "fast"}
    assert "102% of the nominal ceiling" in str(outcome.rejected[0].problem)


def test_a_busy_machine_proves_nothing(tune: Callable[..., Outcome]) -> None:
    outcome = tune(Machine({DEFAULT: 10, "fast": 5}, disturbed={"fast"}))
    assert outcome.keep_default and outcome.best.timing is not None and outcome.best.timing.contended


def test_an_interrupted_run_goes_on_where_it_was(tune: Callable[..., Outcome]) -> None:
    screen: dict[str, Times] = {DEFAULT: 10, "a": 9, "b": 8, "c": 12, "d": 7}
    whole = Machine(screen)
    expected = tune(whole, bound_to="another machine")
    for interrupt_at in (whole.timed[2], whole.timed[-1]):  # while screening, and while confirming
        interrupted = Machine(screen, interrupt_at=interrupt_at)
        with pytest.raises(KeyboardInterrupt):
            tune(interrupted, str(interrupt_at))
        resumed = Machine(screen)
        outcome = tune(resumed, str(interrupt_at))
        assert interrupted.timed + resumed.timed == whole.timed
        assert outcome.best.config == expected.best.config and outcome.interval == expected.interval


def test_a_complete_journal_needs_no_operands(tune: Callable[..., Outcome]) -> None:
    machine = Machine({DEFAULT: 10, "a": 9})
    first = tune(machine)
    again = tune(Machine({DEFAULT: 10, "a": 9}, wrong={DEFAULT}))
    assert again == first


def test_a_stale_journal_is_not_used(tune: Callable[..., Outcome]) -> None:
    tune(Machine({DEFAULT: 10, "a": 9}))
    machine = Machine({DEFAULT: 10, "a": 11})
    assert tune(machine, "the machine with another driver").keep_default
    assert machine.timed == [("screen", "a")]


def test_other_times_and_shapes_are_other_measurements(tune: Callable[..., Outcome]) -> None:
    tune(Machine({DEFAULT: 10, "a": 9}))
    for change in ({"name": "device gemv bf16 16x8 b1"}, {"limits": Limits(precision=100, seconds=30, min_samples=9)}):
        machine = Machine({DEFAULT: 10, "a": 9})
        tune(machine, **change)
        assert machine.timed == [("screen", "a"), ("confirm", "a")]
