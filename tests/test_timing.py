"""The protocol, driven by a stopwatch whose readings are written down beforehand."""

from __future__ import annotations

from dataclasses import dataclass, field
import time

import pytest

from roofprobe.device_timing import disagreement
from roofprobe.timing import HostStopwatch, Launch, Limits, Sample, measure

NO_LIMIT = 60.0


@dataclass
class Script:
    """Readings for a case (`a`) and its reference (`r`), and the order in which they were asked for."""

    a: list[Sample]
    r: list[Sample] = field(default_factory=list)
    order: str = ""
    clock: str = "script"

    def prepare(self, launch: Launch) -> ScriptedCase:
        return ScriptedCase(self, str(launch(0)))


@dataclass
class ScriptedCase:
    script: Script
    name: str
    launches_per_sample: int = 1

    def sample(self) -> Sample:
        self.script.order += self.name
        readings: list[Sample] = getattr(self.script, self.name)
        return readings.pop(0)


def samples(*seconds: float) -> list[Sample]:
    return [Sample(s) for s in seconds]


def case_a(_: int) -> str:
    return "a"


def case_r(_: int) -> str:
    return "r"


def test_each_sample_stands_between_two_references() -> None:
    script = Script(samples(*[2.0] * 7), samples(*[1.0] * 8))
    timing = measure(case_a, script, Limits(0.01, NO_LIMIT), case_r)
    assert script.order == "r" + "ar" * 7
    assert timing.seconds == (2.0,) * 7
    assert timing.reference_seconds == (1.0,) * 7
    assert timing.stopped_by == "interval"


def test_a_pair_whose_references_differ_is_rejected_but_kept() -> None:
    script = Script(samples(*[2.0] * 9), samples(1.0, 1.0, 1.0, 1.09, 1.09, 1.09, 1.09, 1.09, 1.09, 1.09))
    timing = measure(case_a, script, Limits(0.05, NO_LIMIT, min_samples=9), case_r)
    assert timing.rejected == {2: "references differ by 9%"}
    assert len(timing.seconds) == 9
    assert len(timing.accepted) == 8


def test_references_within_eight_percent_count() -> None:
    script = Script(samples(*[2.0] * 7), samples(1.0, 1.07, 1.0, 1.07, 1.0, 1.07, 1.0, 1.07))
    assert measure(case_a, script, Limits(0.05, NO_LIMIT), case_r).rejected == {}


@pytest.mark.parametrize("disturbed", ["a", "r"])
def test_a_disturbed_reading_spoils_its_pairs(disturbed: str) -> None:
    script = Script(samples(*[2.0] * 12), samples(*[1.0] * 13))
    getattr(script, disturbed)[3] = Sample(1.0 if disturbed == "r" else 2.0, "descheduled for 20%")
    timing = measure(case_a, script, Limits(0.01, NO_LIMIT, min_samples=12), case_r)
    # A reference stands beside two samples.
    assert list(timing.rejected) == ([3] if disturbed == "a" else [2, 3])


def test_goes_on_until_the_interval_is_narrow() -> None:
    noisy = samples(1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0)
    script = Script(noisy + samples(*[1.5] * 60))
    timing = measure(case_a, script, Limits(0.01, NO_LIMIT))
    assert timing.stopped_by == "interval"
    assert 7 < len(timing.seconds) < 40


def test_stops_at_the_time_limit_and_says_so() -> None:
    class Slow(ScriptedCase):
        def sample(self) -> Sample:
            time.sleep(0.002)
            return super().sample()

    class SlowScript(Script):
        def prepare(self, launch: Launch) -> ScriptedCase:
            return Slow(self, str(launch(0)))

    alternating = samples(*[1.0, 2.0] * 500)
    timing = measure(case_a, SlowScript(alternating), Limits(0.001, 0.05))
    assert timing.stopped_by == "time-limit"
    assert 7 <= len(timing.seconds) < 1000


def test_stops_at_the_sample_limit_and_says_so() -> None:
    timing = measure(case_a, Script(samples(*[1.0, 2.0] * 20)), Limits(0.001, NO_LIMIT, max_samples=12))
    assert (timing.stopped_by, len(timing.seconds)) == ("sample-limit", 12)


def test_outputs_are_poisoned_after_warm_up_and_before_the_first_sample() -> None:
    script = Script(samples(*[2.0] * 7))
    measure(case_a, script, Limits(0.01, NO_LIMIT), poison=lambda: setattr(script, "order", script.order + "p"))
    assert script.order == "p" + "a" * 7


def test_host_stopwatch_repeats_a_short_launch() -> None:
    calls: list[int] = []
    prepared = HostStopwatch(min_seconds=0.004).prepare(calls.append)
    before = len(calls)
    reading = prepared.sample()
    assert prepared.launches_per_sample > 100
    assert len(calls) - before == prepared.launches_per_sample
    assert calls == list(range(len(calls))), "launches are counted on, so that buffers rotate"
    assert 0 < reading.seconds < 0.001


def test_host_stopwatch_times_a_long_launch_once() -> None:
    prepared = HostStopwatch(min_seconds=0.001).prepare(lambda _: time.sleep(0.005))
    assert prepared.launches_per_sample == 1
    reading = prepared.sample()
    assert reading.seconds >= 0.005
    assert reading.problem is not None and "of the CPUs" in reading.problem, "sleeping, it had none of them"


def test_host_stopwatch_trusts_a_launch_that_keeps_its_cpu_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    # The kernel's own clocks, but a process that has one CPU, as this thread does.
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})
    monkeypatch.setattr("time.process_time", time.perf_counter)
    assert HostStopwatch(min_seconds=0.001).prepare(lambda _: sum(range(1000))).sample().problem is None


@pytest.mark.parametrize(
    ("event", "wall", "trusted"),
    [(2e-3, 2.05e-3, True), (2e-3, 2.2e-3, False), (20e-3, 20.9e-3, True), (20e-3, 18e-3, False), (0.0, 1e-3, False)],
    ids=["launch cost alone", "10 % more", "4.5 % more", "events ran ahead", "events stood still"],
)
def test_event_time_is_held_against_wall_time(event: float, wall: float, trusted: bool) -> None:
    assert (disagreement(event, wall) is None) == trusted
