"""The device's stopwatch on a device and a host with a clock each: what the host takes is no part of a sample."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from roofprobe import device_timing
from roofprobe.device_timing import HOST_LATE, NEVER_ADVANCED, DeviceStopwatch
from roofprobe.timing import PreparedCase

HERTZ = 2e9
LAUNCH_HOST_SECONDS = 15e-6
WAKE_UP_SECONDS = 20e-6


@dataclass
class Clocks:
    """Of an asynchronous device: what the host enqueues begins when the device is free, and not before."""

    launch_seconds: float
    graph_host_seconds: float = 15e-6
    """That the host takes to hand over a graph."""
    captures: bool = True
    host: float = 0.0
    device: float = 0.0
    capturing: bool = False
    captured: int = 0

    def enqueue(self, seconds: float, host_seconds: float = 0.0) -> None:
        self.host += host_seconds
        self.device = max(self.device, self.host) + seconds

    def launch(self, _: int) -> None:
        if not self.capturing:
            self.enqueue(self.launch_seconds, LAUNCH_HOST_SECONDS)
        elif not self.captures:
            raise RuntimeError("operation not permitted when stream is capturing")
        self.captured += 1

    def wait(self) -> None:
        self.host = max(self.host, self.device)


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> Any:
    def prepare(clocks: Clocks) -> PreparedCase:
        class Event:
            def __init__(self, enable_timing: bool) -> None:
                assert enable_timing

            def record(self) -> None:
                clocks.enqueue(0.0)
                self.at = clocks.device

            def query(self) -> bool:
                return clocks.host >= self.at

            def synchronize(self) -> None:
                clocks.host = max(clocks.host, self.at) + WAKE_UP_SECONDS

            def elapsed_time(self, end: Event) -> float:
                return 1e3 * (end.at - self.at)

        class Graph:
            def replay(self) -> None:
                clocks.enqueue(clocks.captured * clocks.launch_seconds, clocks.graph_host_seconds)

        @contextmanager
        def capture(_: Graph) -> Iterator[None]:
            clocks.capturing, clocks.captured = True, 0
            try:
                yield
            finally:
                clocks.capturing = False

        fake: dict[str, Any] = {
            "is_available": lambda: True,
            "synchronize": clocks.wait,
            "_sleep": lambda cycles: clocks.enqueue(cycles / HERTZ),
            "CUDAGraph": Graph,
            "graph": capture,
            "Event": Event,
        }
        for name, value in fake.items():
            monkeypatch.setattr(torch.cuda, name, value)
        monkeypatch.setattr(device_timing.time, "perf_counter", lambda: clocks.host)
        return DeviceStopwatch().prepare(clocks.launch)

    return prepare


@pytest.mark.parametrize(
    ("microseconds", "host", "launches"),
    [
        pytest.param(4, 150, 500, id="a graph that takes long to hand over"),
        pytest.param(40, 15, 50, id="a GEMV of tens of microseconds"),
        pytest.param(3000, 15, 1, id="a copy of a gigabyte"),
    ],
)
def test_a_sample_of_a_graph_is_the_devices_time(prepared: Any, microseconds: int, host: int, launches: int) -> None:
    case = prepared(Clocks(microseconds * 1e-6, host * 1e-6))
    sample = case.sample()
    assert case.launches_per_sample == launches
    assert (sample.seconds, sample.problem) == (pytest.approx(microseconds * 1e-6, rel=1e-9), None)


def test_queued_launches_are_the_devices_time_too(prepared: Any) -> None:
    sample = prepared(Clocks(5e-6, captures=False)).sample()
    assert (sample.seconds, sample.problem) == (pytest.approx(5e-6, rel=1e-9), None)


def test_a_device_whose_clock_stands_still_is_told(prepared: Any) -> None:
    assert prepared(Clocks(0.0)).sample().problem == NEVER_ADVANCED


def test_a_host_that_was_held_up_makes_no_sample(prepared: Any) -> None:
    """The events count the device's waiting, and the wall clock agrees with them."""
    clocks = Clocks(40e-6)
    case = prepared(clocks)
    clocks.graph_host_seconds = 3e-3
    late = case.sample()
    assert late.seconds > 1.4 * 40e-6
    assert late.problem == HOST_LATE
    samples = [case.sample() for _ in range(8)]  # the spin grows with a host that is slow each time
    assert (samples[-1].seconds, samples[-1].problem) == (pytest.approx(40e-6, rel=1e-9), None)
