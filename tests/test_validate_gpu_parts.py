"""The parts' own code for a GPU, with a CPU and Triton's interpreter that play one: it runs, and says what it should.

No figure that comes out of this means anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import json
import time
from types import SimpleNamespace
from typing import Any

from conftest import why_no_gpu
from gpu_checks import correctness, environment, far_offsets, l2_flush, launch_cost
from gpu_checks.machine import Machine
import pytest
import torch

from roofprobe.timing import Sample

pytestmark = pytest.mark.skipif(why_no_gpu() == "", reason="the tests run kernels on this machine's GPU, uninterpreted")
GPU = Machine(torch.device("cpu"), dry=False)
DRY = Machine(torch.device("cpu"), dry=True)
Lines = Callable[[], dict[str, Any]]


class FakeEvent:
    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        self.at = time.perf_counter()

    def query(self) -> bool:
        return False

    def synchronize(self) -> None: ...

    def elapsed_time(self, end: FakeEvent) -> float:
        return (end.at - self.at) * 1e3


class FakeGraph:
    """What is captured runs once, at once; a replay takes a moment."""

    def replay(self) -> None:
        time.sleep(1e-4)


@contextmanager
def fake_capture(_: FakeGraph) -> Iterator[None]:
    yield


@pytest.fixture(autouse=True)
def cuda(monkeypatch: pytest.MonkeyPatch) -> Any:
    """torch.cuda of an H200 with 4 KiB of L2 and 9 GiB free; returns its properties."""
    told = SimpleNamespace(
        major=9, minor=0, multi_processor_count=132, L2_cache_size=1 << 12, total_memory=150 << 30, is_integrated=False
    )
    replaced: dict[str, Any] = {
        "get_device_properties": lambda *_: told,
        "get_device_capability": lambda *_: (9, 0),
        "get_device_name": lambda *_: "NVIDIA H200",
        "mem_get_info": lambda *_: (9 << 30, 150 << 30),
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "synchronize": lambda *_: None,
        "empty_cache": lambda: None,
        "_sleep": lambda _: None,
        "Event": FakeEvent,
        "CUDAGraph": FakeGraph,
        "graph": fake_capture,
    }
    for name, value in replaced.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(correctness, "device_mode", lambda _: "e4m3")
    return told


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Lines:
    return lambda: {line["case"]: line for line in map(json.loads, capsys.readouterr().out.splitlines())}


def test_the_machine(lines: Lines) -> None:
    environment.run(GPU)
    figures = lines()["machine"]["figures"]
    assert figures["device"] == "NVIDIA H200"
    assert (figures["compute_capability"], figures["modes"], figures["devices"]) == ("9.0", "bits, e4m3, mma", 1)


def test_an_h200_checks_every_mode_that_it_has() -> None:
    names = set(correctness.cases(GPU))
    for kind in ("nvfp4 linear", "nvfp4 128x4", "mxfp4 linear", "mxfp4 128x4"):
        assert {f"gemv {kind}, {mode}" for mode in ("bits", "e4m3", "mma")} <= names
        assert f"dequant {kind}, mma" not in names
    assert "gemv fp8 row, e4m3" in names and "gemv fp8 row, mma" not in names
    assert {"one-hot vectors, mma", "NaN stays in its row, e4m3"} <= names
    assert {name for name in correctness.cases(DRY) if "e4m3" in name or "mma" in name} != set()  # the fixture's mode


def test_every_gemv_case_meets_each_dtype_with_each_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is computed: the variants alone."""
    monkeypatch.setattr(correctness, "_wrong", lambda *_: 0)
    make = correctness.WEIGHTS["nvfp4 linear"]
    found = [name for name, _ in correctness._gemv(GPU, "nvfp4", make, "e4m3")]
    pairs = {(name.split(", ")[1], name.split(", ")[2]) for name in found[:-1]}
    assert (len(found), len(pairs)) == (10, 9)
    assert all("float32" not in name for name, _ in correctness._gemv(GPU, "nvfp4", make, "mma"))


def test_what_does_not_fit_is_skipped_with_its_reason(cuda: Any, lines: Lines) -> None:
    """9 GiB free: no case past 2^31 words is begun; on an integrated GPU the system's free memory decides."""
    for name, case in far_offsets.cases(GPU).items():
        correctness.report(name, case())
    found = lines()
    assert len(found) == 10
    assert {line["status"] for line in found.values()} == {"skipped"}
    assert "needs 18.3 GB of device memory, 8.7 may be used" in found["stream, past 2^31 words"]["detail"]
    cuda.is_integrated = True
    with open("/proc/meminfo") as meminfo:
        total = 1024 * int(next(meminfo).split()[1])
    assert 0 < GPU.room() < total


def test_the_flush_study(monkeypatch: pytest.MonkeyPatch, lines: Lines) -> None:
    monkeypatch.setattr(l2_flush, "K", 288)
    monkeypatch.setattr(l2_flush, "REPEATS", 2)
    l2_flush.run(GPU)
    found = lines()
    n = int(0.4 * 4096 / 0.5625 / 288)
    assert set(found) == {"a pair of events around nothing"} | {
        f"nvfp4 gemv {n}x288, {way}" for way in ("rotation", "read", "write", "hot")
    }
    assert found[f"nvfp4 gemv {n}x288, rotation"]["figures"]["of_rotation"] == 1.0


@pytest.fixture
def one_small_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch_cost, "SHAPES", ((18, 288),))
    monkeypatch.setattr(launch_cost, "LAUNCHES", 2)
    monkeypatch.setattr("roofprobe.device_timing.MAX_LAUNCHES", 1)
    monkeypatch.setattr("roofprobe.device_timing.LAUNCHES_TO_ESTIMATE", 1)


@pytest.mark.usefixtures("one_small_shape")
def test_launch_cost_without_cupti(lines: Lines) -> None:
    launch_cost.run(GPU)
    found = lines()
    assert found["nvfp4 gemv 18x288"]["status"] == "ok"
    assert {"enqueue_us", "loop_us", "graph_us"} == set(found["nvfp4 gemv 18x288"]["figures"])
    compared = found["nvfp4 gemv 18x288, events against CUPTI"]
    assert compared["status"] == "skipped"
    assert "AssertionError" in compared["detail"] or "kernels of" in compared["detail"]


@pytest.mark.parametrize(("stretched", "status"), [(1.0, "ok"), (1.05, "failed")])
def test_cupti_against_events(stretched: float, status: str, monkeypatch: pytest.MonkeyPatch, lines: Lines) -> None:
    """Two replays of 100 launches, 100 us apart, which events say took 100 us each, or 5 % less than the truth."""
    kernels = [(i * 100.0, i * 100.0 + 99.0) for i in range(200)]
    sample = Sample(99.99e-6 / stretched)
    monkeypatch.setattr(launch_cost, "_profiled", lambda _: (kernels, 100, sample))
    launch_cost._compare("x", lambda _: None)
    line = lines()["x"]
    assert line["status"] == status
    assert line["figures"]["kernel_us"] == 99.0
    assert line["figures"]["cupti_us"] == pytest.approx(99.99)


def test_a_sample_that_does_not_count_is_held_against_nothing(monkeypatch: pytest.MonkeyPatch, lines: Lines) -> None:
    kernels = [(i * 100.0, i * 100.0 + 99.0) for i in range(200)]
    monkeypatch.setattr(launch_cost, "_profiled", lambda _: (kernels, 100, Sample(2e-4, "the host was late")))
    launch_cost._compare("x", lambda _: None)
    assert lines()["x"]["status"] == "skipped"


def test_an_illegal_address_in_one_case_is_that_cases_failure(lines: Lines) -> None:
    def breaks() -> Iterator[tuple[str, int]]:
        yield "first", 0
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nmore")

    correctness.report("x", breaks())
    line = lines()["x"]
    assert (line["status"], line["figures"]["checked"]) == ("failed", 1)
    assert line["detail"] == "RuntimeError: CUDA error: an illegal memory access was encountered"
