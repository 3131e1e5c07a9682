"""The sampler against an NVML that fails in every way, with its real thread and file."""

from __future__ import annotations

from collections.abc import Callable
import json
from pathlib import Path
from threading import Event
import time
from types import SimpleNamespace
from typing import Any

import pytest

from roofprobe.errors import BadInput
from roofprobe.telemetry import Sampling, SentinelResult, read_sampling
from roofprobe.telemetry_sampler import Sampler, reason_names

UUID = "GPU-11111111-2222-3333-4444-555555555555"


class FakeNvmlError(Exception):
    """Stands for pynvml's, which has a type for each code."""


class FakeNvml:
    """pynvml's part that the sampler calls; `broken` names the functions that raise."""

    NVML_CLOCK_SM = 1
    NVML_TEMPERATURE_GPU = 0

    def __init__(self, broken: tuple[str, ...] = (), **answers: Any) -> None:
        self.broken = set(broken)
        self.answers = answers
        self.calls = 0
        self.asked_for: list[object] = []

    def _answer(self, name: str, value: Any) -> Any:
        self.calls += 1
        if name in self.broken:
            raise FakeNvmlError("Not Supported")
        return self.answers.get(name, value)

    def nvmlInit(self) -> None:
        self._answer("nvmlInit", None)

    def nvmlShutdown(self) -> None:
        self._answer("nvmlShutdown", None)

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> object:
        self.asked_for.append(uuid)
        return self._answer("nvmlDeviceGetHandleByUUID", object())

    def nvmlDeviceGetUtilizationRates(self, _: object) -> Any:
        return SimpleNamespace(gpu=self._answer("nvmlDeviceGetUtilizationRates", 97))

    def nvmlDeviceGetClockInfo(self, _: object, clock: int) -> Any:
        assert clock == self.NVML_CLOCK_SM
        return self._answer("nvmlDeviceGetClockInfo", 2418)

    def nvmlDeviceGetPowerUsage(self, _: object) -> Any:
        return self._answer("nvmlDeviceGetPowerUsage", 65_500)

    def nvmlDeviceGetTemperature(self, _: object, sensor: int) -> Any:
        assert sensor == self.NVML_TEMPERATURE_GPU
        return self._answer("nvmlDeviceGetTemperature", 71)

    def nvmlDeviceGetPerformanceState(self, _: object) -> Any:
        return self._answer("nvmlDeviceGetPerformanceState", 0)

    def nvmlDeviceGetCurrentClocksEventReasons(self, _: object) -> Any:
        return self._answer("nvmlDeviceGetCurrentClocksEventReasons", 0x24)

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, _: object) -> Any:
        return self._answer("nvmlDeviceGetCurrentClocksThrottleReasons", 0x08)


FIELD_OF = {
    "nvmlDeviceGetUtilizationRates": "utilization_pct",
    "nvmlDeviceGetClockInfo": "sm_clock_mhz",
    "nvmlDeviceGetPowerUsage": "power_w",
    "nvmlDeviceGetTemperature": "temperature_c",
    "nvmlDeviceGetPerformanceState": "p_state",
}
EVENT_REASONS = "nvmlDeviceGetCurrentClocksEventReasons"
THROTTLE_REASONS = "nvmlDeviceGetCurrentClocksThrottleReasons"
COMPLETE = {
    "utilization_pct": 97.0,
    "sm_clock_mhz": 2418.0,
    "power_w": 65.5,
    "temperature_c": 71.0,
    "p_state": "P0",
    "reasons": ["sw_power_cap", "sw_thermal_slowdown"],
}


def until(true: Callable[[], Any]) -> None:
    for _ in range(2000):
        if true():
            return
        time.sleep(0.005)
    raise AssertionError("waited 10 s in vain")


def sampled(path: Path, nvml: Any, enough: Callable[[Sampler], Any] | None = None) -> Sampler:
    """A sampler that has run until `enough`, by default until three samples."""
    with Sampler(path, UUID, interval=0.002, nvml=nvml) as sampler:
        until(lambda: enough(sampler) if enough else len(sampler.samples) >= 3)
    return sampler


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_field_is_written_with_its_time(tmp_path: Path) -> None:
    nvml = FakeNvml()
    sampler = sampled(tmp_path / "t.jsonl", nvml)
    written = lines(tmp_path / "t.jsonl")
    assert all({**line, "t_s": 0} == {"t_s": 0, **COMPLETE} for line in written)
    times = [line["t_s"] for line in written]
    assert times == sorted(times) and times[0] >= 0
    assert nvml.asked_for == [UUID] and sampler.problem is None
    assert read_sampling(tmp_path / "t.jsonl", "here").samples == tuple(sampler.samples)
    assert sampler.sm_clocks_mhz(times[0], times[1]) == (2418.0, 2418.0)


@pytest.mark.parametrize("call", FIELD_OF)
def test_a_call_that_is_not_supported_costs_its_own_field_alone(call: str, tmp_path: Path) -> None:
    sampler = sampled(tmp_path / "t.jsonl", FakeNvml((call,)))
    expected = {name: value for name, value in COMPLETE.items() if name != FIELD_OF[call]}
    assert {k: v for k, v in lines(tmp_path / "t.jsonl")[0].items() if k != "t_s"} == expected
    assert sampler.problem is None


def test_reasons_come_from_the_older_call_where_the_newer_is_missing(tmp_path: Path) -> None:
    sampled(tmp_path / "driver.jsonl", FakeNvml((EVENT_REASONS,)))
    assert lines(tmp_path / "driver.jsonl")[0]["reasons"] == ["hw_slowdown"]

    class OldBinding(FakeNvml):
        @property
        def nvmlDeviceGetCurrentClocksEventReasons(self) -> Any:  # type: ignore[override]
            raise AttributeError("module 'pynvml' has no attribute 'nvmlDeviceGetCurrentClocksEventReasons'")

    sampled(tmp_path / "binding.jsonl", OldBinding())
    assert lines(tmp_path / "binding.jsonl")[0]["reasons"] == ["hw_slowdown"]
    sampled(tmp_path / "neither.jsonl", FakeNvml((EVENT_REASONS, THROTTLE_REASONS)))
    assert "reasons" not in lines(tmp_path / "neither.jsonl")[0]


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        ("nvmlDeviceGetPerformanceState", 32),  # NVML's "unknown"
        ("nvmlDeviceGetUtilizationRates", 0xFFFFFFFF),
        ("nvmlDeviceGetClockInfo", 0xFFFFFFFF),
        ("nvmlDeviceGetPowerUsage", 0xFFFFFFFF),
        ("nvmlDeviceGetTemperature", 0xFFFFFFFF),
    ],
)
def test_an_answer_that_means_unknown_is_an_absent_field(call: str, answer: int, tmp_path: Path) -> None:
    sampled(tmp_path / "t.jsonl", FakeNvml(**{call: answer}))
    assert FIELD_OF[call] not in lines(tmp_path / "t.jsonl")[0]


@pytest.mark.parametrize("call", ["nvmlInit", "nvmlDeviceGetHandleByUUID"])
def test_without_nvml_results_are_written_and_the_reason_is_told(call: str, tmp_path: Path) -> None:
    with Sampler(tmp_path / "t.jsonl", UUID, interval=0.002, nvml=FakeNvml((call,))) as sampler:
        sampler.result(SentinelResult(t_s=1.5, sentinel="gemv", gb_per_s=230.0))
    assert lines(tmp_path / "t.jsonl") == [{"t_s": 1.5, "sentinel": "gemv", "gb_per_s": 230.0}]
    assert sampler.problem == "no NVML: FakeNvmlError: Not Supported"


def test_without_a_gpu_nvml_is_not_asked_and_a_result_says_that_it_is_the_hosts(tmp_path: Path) -> None:
    nvml = FakeNvml()
    with Sampler(tmp_path / "t.jsonl", None, interval=0.002, nvml=nvml) as sampler:
        sampler.result(SentinelResult(t_s=0.5, sentinel="copy", gb_per_s=30.0, side="host"))
        until(lambda: (tmp_path / "t.jsonl").stat().st_size)
    assert lines(tmp_path / "t.jsonl") == [{"t_s": 0.5, "sentinel": "copy", "gb_per_s": 30.0, "side": "host"}]
    assert sampler.problem == "no GPU to sample" and nvml.asked_for == []


def test_a_driver_that_is_lost_ends_the_samples_and_nothing_else(tmp_path: Path) -> None:
    nvml = FakeNvml()
    with Sampler(tmp_path / "t.jsonl", UUID, interval=0.002, nvml=nvml) as sampler:
        until(lambda: len(sampler.samples) >= 3)
        nvml.broken = {*FIELD_OF, EVENT_REASONS, THROTTLE_REASONS}
        until(lambda: sampler.problem)
        before = len(sampler.samples)
        sampler.result(SentinelResult(t_s=9.0, sentinel="matmul", tflop_per_s=80.0))
        calls = nvml.calls
        until(lambda: nvml.calls > calls + 20)
    assert len(sampler.samples) == before
    assert "NVML told nothing from" in str(sampler.problem) and "Not Supported" in str(sampler.problem)
    found: Sampling = read_sampling(tmp_path / "t.jsonl", "here")
    assert len(found.samples) == before and found.of("matmul")[0].rate == 80.0


def test_a_call_that_never_returns_does_not_hold_up_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("roofprobe.telemetry_sampler.PATIENCE_SECONDS", 0.05)
    released = Event()

    class Hanging(FakeNvml):
        def nvmlDeviceGetPowerUsage(self, _: object) -> Any:
            released.wait(30)
            return 1

    with Sampler(tmp_path / "t.jsonl", UUID, interval=0.002, nvml=Hanging()) as sampler:
        sampler.result(SentinelResult(t_s=0.1, sentinel="gemv", gb_per_s=1.0))
    assert "has not returned" in str(sampler.problem)
    assert [line["sentinel"] for line in lines(tmp_path / "t.jsonl")] == ["gemv"]
    released.set()  # what the call then brings is written to no file
    sampler._thread.join(10)
    assert not sampler._thread.is_alive() and len(lines(tmp_path / "t.jsonl")) == 1


def test_an_interruption_loses_no_line(tmp_path: Path) -> None:
    sampler = Sampler(tmp_path / "t.jsonl", UUID, interval=0.002, nvml=FakeNvml())

    def interrupted() -> None:
        with sampler:
            until(lambda: len(sampler.samples) >= 3)
            sampler.result(SentinelResult(t_s=0.2, sentinel="gemv", gb_per_s=1.0))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    found = read_sampling(tmp_path / "t.jsonl", "here")
    assert found.samples == tuple(sampler.samples) and len(found.sentinels) == 1


def test_samples_end_when_the_gpus_work_does_or_at_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml()
    with Sampler(tmp_path / "ended.jsonl", UUID, interval=0.002, nvml=nvml) as sampler:
        until(lambda: len(sampler.samples) >= 3)
        sampler.end_samples()
        sampler.result(SentinelResult(t_s=0.2, sentinel="gemv", gb_per_s=1.0))
        until(lambda: "gemv" in (tmp_path / "ended.jsonl").read_text())
        # The result was written after the last sample: the next turns of the thread ask nothing any more.
        taken = nvml.calls
        for number in range(3):
            sampler.result(SentinelResult(t_s=1.0 + number, sentinel="copy", gb_per_s=1.0))
            until(lambda: sampler._results.empty())
        assert nvml.calls == taken
    monkeypatch.setattr("roofprobe.telemetry_sampler.MAX_SAMPLES", 5)
    sampler = sampled(tmp_path / "bounded.jsonl", FakeNvml(), lambda each: each.problem)
    assert len(lines(tmp_path / "bounded.jsonl")) == 5 and sampler.problem == "stopped after 5 samples"


def test_a_file_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="can't write"):
        Sampler(tmp_path / "missing" / "t.jsonl", UUID)


def test_reason_names_are_nvmls_in_lower_case() -> None:
    import re

    pynvml = pytest.importorskip("pynvml")
    for prefix in ("nvmlClocksEventReason", "nvmlClocksThrottleReason"):
        named = {n.removeprefix(prefix): getattr(pynvml, n) for n in dir(pynvml) if n.startswith(prefix)}
        for name, mask in named.items():
            # UserDefinedClocks is an older name of ApplicationsClocksSetting's bit.
            if name not in ("All", "None", "UserDefinedClocks"):
                assert reason_names(mask) == (re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower(),)
    assert reason_names(0) == () and reason_names(1 << 40) == ("bit_40",)
