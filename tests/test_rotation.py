"""Which outputs count as timed, with the device's own stopwatch on a CUDA that runs its launches in Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from roofprobe.device_timing import LAUNCHES_TO_ESTIMATE, DeviceStopwatch
from roofprobe.probes.rotation import Rotation
from roofprobe.timing import HostStopwatch, Limits, Timing, measure

RIGHT = 5.0
WARM_UP = 3 + LAUNCHES_TO_ESTIMATE


@dataclass
class Cuda:
    """One stream: a launch runs and takes its time, or is recorded by the graph that is being captured."""

    launch_seconds: float
    capture_fails_at: int | None = None
    now: float = 0.0
    graph: Graph | None = None

    def launch(self, kernel: Callable[[], object]) -> None:
        if self.graph is None:
            kernel()
            self.now += self.launch_seconds
        elif len(self.graph.kernels) == self.capture_fails_at:
            raise RuntimeError("operation not permitted when stream is capturing")
        else:
            self.graph.kernels.append(kernel)

    @property
    def capturing(self) -> bool:
        return self.graph is not None

    @contextmanager
    def capture(self, graph: Graph) -> Iterator[None]:
        self.graph = graph
        try:
            yield
        finally:
            self.graph = None


@dataclass
class Graph:
    cuda: Cuda
    kernels: list[Callable[[], object]] = field(default_factory=list)

    def replay(self) -> None:
        for kernel in self.kernels:
            self.cuda.launch(kernel)


@dataclass
class Event:
    cuda: Cuda
    at: float = 0.0

    def record(self) -> None:
        self.at = self.cuda.now

    def query(self) -> bool:
        return False

    def synchronize(self) -> None: ...

    def elapsed_time(self, end: Event) -> float:
        return 1e3 * (end.at - self.at)


@dataclass
class Kernel:
    """Writes RIGHT into a copy's output, as long as it works; `launched` copies, as the stream carries them out."""

    cuda: Cuda
    outputs: list[torch.Tensor]
    works_for: int = 10**9
    launched: list[int] = field(default_factory=list)

    def run(self, copy: int) -> None:
        def on_stream() -> None:
            self.launched.append(copy)
            if len(self.launched) <= self.works_for:
                self.outputs[copy].fill_(RIGHT)

        self.cuda.launch(on_stream)


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Rotation, Kernel, Timing]]:
    def timed(cuda: Cuda, copies: int, **broken: int) -> tuple[Rotation, Kernel, Timing]:
        fake: dict[str, Any] = {
            "is_available": lambda: True,
            "synchronize": lambda: None,
            "_sleep": lambda _: None,
            "CUDAGraph": lambda: Graph(cuda),
            "graph": cuda.capture,
            "Event": lambda **_: Event(cuda),
        }
        for name, value in fake.items():
            monkeypatch.setattr(torch.cuda, name, value)
        kernel = Kernel(cuda, [torch.zeros(3) for _ in range(copies)], **broken)
        rotation = Rotation(kernel.run, kernel.outputs, float("nan"), capturing=lambda: cuda.capturing)
        limits = Limits(precision=1, seconds=60, max_samples=9)
        return rotation, kernel, measure(rotation.launch, DeviceStopwatch(), limits, poison=rotation.poison)

    return timed


def wrong(rotation: Rotation, kernel: Kernel) -> int:
    return sum(int((kernel.outputs[copy] != RIGHT).sum()) for copy in rotation.written())


# A sample lasts 2 ms: so many launches are captured. The warm-up has written copies 0 to 11, whatever is captured.
@pytest.mark.parametrize(
    ("milliseconds", "copies", "written"),
    [
        pytest.param(3, 5, [0], id="one launch, fewer than the warm-up's"),
        pytest.param(1, 5, [0, 1], id="two launches"),
        pytest.param(0.1, 5, [0, 1, 2, 3, 4], id="every copy four times"),
        pytest.param(0.1, 40, list(range(20)), id="not half of the copies"),
        pytest.param(3, 1, [0], id="one copy"),
    ],
)
def test_a_replay_writes_what_was_captured(on: Any, milliseconds: float, copies: int, written: list[int]) -> None:
    rotation, kernel, timing = on(Cuda(milliseconds * 1e-3), copies)
    assert timing.clock == "cuda-graph"
    assert rotation.written() == written == sorted(set(kernel.launched[-timing.launches_per_sample :]))
    assert wrong(rotation, kernel) == 0


@pytest.mark.parametrize("fails_at", [0, 1, 3], ids=["at once", "after one launch", "after three"])
def test_what_was_half_captured_does_not_count(on: Any, fails_at: int) -> None:
    """Launches 4, 5 … are then queued one by one: with 100 copies, none of those that the capture had begun with."""
    rotation, kernel, timing = on(Cuda(0.5e-3, capture_fails_at=fails_at), copies=100)
    samples = len(timing.seconds) * timing.launches_per_sample
    assert rotation.written() == [count % 100 for count in range(4, 4 + samples)]
    assert wrong(rotation, kernel) == 0


@pytest.mark.parametrize("copies", [1, 5])
@pytest.mark.parametrize("capture_fails_at", [None, 0], ids=["graph", "queue"])
def test_a_kernel_that_stops_writing_is_caught(on: Any, copies: int, capture_fails_at: int | None) -> None:
    """A graph, here of one launch, is replayed once after the warm-up; then comes the poison."""
    warm_up = WARM_UP if capture_fails_at == 0 else WARM_UP + 1
    rotation, kernel, _ = on(Cuda(3e-3, capture_fails_at=capture_fails_at), copies, works_for=warm_up)
    assert wrong(rotation, kernel) == 3 * len(rotation.written())


def test_a_later_capture_takes_the_earlier_ones_place(on: Any) -> None:
    """As the tuner's default is prepared again for every configuration."""
    cuda = Cuda(0.5e-3)
    rotation, _, _ = on(cuda, copies=8)
    assert rotation.written() == [0, 1, 2, 3]
    cuda.launch_seconds = 3e-3
    DeviceStopwatch().prepare(rotation.launch)
    rotation.poison()
    assert rotation.written() == [0]


def test_on_a_host_it_is_what_was_called_since() -> None:
    outputs = [torch.zeros(1) for _ in range(3)]
    rotation = Rotation(lambda copy: outputs[copy].fill_(RIGHT), outputs, float("nan"))
    case = HostStopwatch(min_seconds=0).prepare(rotation.launch)
    rotation.poison()
    with pytest.raises(AssertionError, match="nothing ran"):
        rotation.written()
    case.sample()
    assert rotation.written() == [2]
    assert [bool(o.isnan()) for o in outputs] == [True, True, False]
