"""Sentinels on the CPU, end to end; and with a GPU played by the CPU, for what needs two sides at once."""

from __future__ import annotations

from dataclasses import replace
import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest
from records import environment

from roofprobe.kernels.host_threads import HostConfig
from roofprobe.load_record import MatmulRate, SentinelRun
from roofprobe.measurement import Device, Environment
from roofprobe.probes import contention_curve, sentinel_cases
from roofprobe.probes.sentinel_cases import matmul_size, whole_numbers, wrong_products
from roofprobe.probes.sentinel_load import LoadedSide, every_sentinel
from roofprobe.probes.sentinels import main, measure_sentinels, plan
from roofprobe.probes.sides import find_sides
from roofprobe.run_file import read_run
from roofprobe.telemetry import read_sampling
from roofprobe.timing import Sample

MIB = 1 << 20
SMALL = ["--side", "host", "--seconds", "0.2", "--memory", "96M"]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose cache is 1 MiB, and stretches of load that are short."""
    monkeypatch.setattr("roofprobe.environment.read_environment", environment)
    monkeypatch.setattr("roofprobe.probes.sentinel_load.STRETCH_SECONDS", 0.02)
    monkeypatch.setattr("roofprobe.probes.sentinel_cases.SAMPLE_SECONDS", 0.001)
    monkeypatch.setattr("roofprobe.probes.sentinel_cases.MATMUL_SIZES", {"device": (128,), "host": (128,)})
    monkeypatch.setattr("roofprobe.probes.sentinel_cases.HOST_MATMUL_SECONDS", 60.0)


def test_the_cpu_alone_runs_every_phase_and_says_that_it_is_the_cpu(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SMALL, "--out", str(tmp_path / "out"), "--json"]) == 0
    run = read_run(tmp_path / "out")
    ran = {(s.phase, s.sentinel) for s in run.sentinels}
    assert ran == {(p, name) for p in ("before", "during", "after") for name in ("gemv", "copy", "matmul")}
    assert all(s.side == "host" and s.memory.startswith("CPU side of") and s.wrong == 0 for s in run.sentinels)
    assert all(len(s.seconds) >= 7 and len(s.accepted) >= 5 and s.beside is None for s in run.sentinels)
    times = [s.t_s for s in run.sentinels]
    assert times == sorted(times), "records come as they are made"
    assert [m.wrong for m in run.matmuls] == [0] and run.matmuls[0].peak_fraction is None
    (curve,) = run.contentions
    assert curve.sides == ("host",) and curve.note == contention_curve.HOST_ONLY and curve.wrong == 0
    cpus = len(os.sched_getaffinity(0))
    assert {p.cpu_threads for p in curve.points} == set(contention_curve.thread_counts(cpus))
    assert {s.case: s.reason for s in run.skipped} == {
        "GPU and CPU together": "only the host side is measured",
        "NVML samples": "no GPU to sample",
    }
    assert run.ended is not None and not run.ended.interrupted
    sampling = read_sampling(tmp_path / "out" / "telemetry.jsonl", "here")
    assert [r.side for r in sampling.sentinels] == ["host"] * len(run.sentinels) and not sampling.samples
    document = json.loads(capsys.readouterr().out)
    assert [s["rate"] for s in document["sentinels"]] == pytest.approx([s.rate for s in run.sentinels])
    assert document["matmul"][0]["tflop_per_s"] == pytest.approx(run.matmuls[0].tflop_per_s)
    assert len(document["contention"][0]["points"]) == len(curve.points)
    assert main([*SMALL, "--out", str(tmp_path / "out")]) == 2, "a run is never written over"


@pytest.mark.parametrize(
    "target",
    ["roofprobe.kernels.gemv_host.gemv_bf16", "roofprobe.kernels.stream_host.copy", "torch.matmul"],
    ids=["gemv", "copy", "matmul"],
)
def test_a_sentinel_that_stops_writing_is_caught_in_every_phase(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roofprobe.probes.sentinel_cases._host_flops_per_second", lambda: 1e12)
    monkeypatch.setattr(target, lambda *_, **__: None)
    assert main([*SMALL, "--out", str(tmp_path / "out")]) == 1
    run = read_run(tmp_path / "out")
    broken = {s.sentinel for s in run.sentinels if s.wrong}
    assert len(broken) == 1
    phases = {s.phase: s.wrong for s in run.sentinels if s.sentinel in broken}
    assert set(phases) == {"before", "during", "after"} and all(phases.values())
    assert all(s.invalid for s in run.sentinels if s.wrong)


def test_a_result_that_goes_wrong_under_load_alone_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One element, by one: what a chip may do that is too hot."""
    from roofprobe.kernels import stream_host
    from roofprobe.probes import sentinels

    right, real, hot = stream_host.copy, sentinels.sustain, []

    def slips(source: Any, out: Any, *more: Any) -> Any:
        result = right(source, out, *more)
        out[out.numel() // 2] += bool(hot)
        return result

    def sustain(*arguments: Any) -> None:
        hot.append(1)
        real(*arguments)
        hot.clear()

    monkeypatch.setattr(stream_host, "copy", slips)
    monkeypatch.setattr(sentinels, "sustain", sustain)
    assert main([*SMALL, "--out", str(tmp_path / "out")]) == 1
    copies = [s for s in read_run(tmp_path / "out").sentinels if s.sentinel == "copy"]
    assert [s.wrong for s in copies] == [0, *[1] * (len(copies) - 2), 0] and len(copies) > 2


def fake_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device side whose memory and kernels are the CPU's."""
    from roofprobe.timing import HostStopwatch

    config = HostConfig(threads=1)
    for name in ("stream_config", "gemv_config"):
        for module in ("configs", "case", "gemv", "memory"):
            monkeypatch.setattr(f"roofprobe.probes.{module}.{name}", lambda *_, **__: config, raising=False)
    monkeypatch.setattr("roofprobe.probes.sentinel_load.sentinel_stopwatch", lambda _: HostStopwatch(0.001))
    monkeypatch.setattr("roofprobe.probes.sentinels._uuid", lambda: "GPU-none")

    def feed(reader: Any, spans: list[tuple[float, float]], stop: Any, first: Any) -> None:
        while not stop.is_set():
            start = time.perf_counter()
            reader.read()
            spans.append((start, time.perf_counter()))
            first.set()

    monkeypatch.setattr(contention_curve, "_feed", feed)


def fake_gpu(integrated: bool) -> Environment:
    described = Device(
        index=0,
        name="a CPU that plays a GPU",
        compute_capability="12.1",
        multiprocessors=48,
        l2_bytes=MIB,
        memory_bytes=1 << 30,
        integrated=integrated,
    )
    return environment(devices=(described,))


@pytest.mark.parametrize("integrated", [True, False], ids=["one memory", "two memories"])
def test_two_sides_run_alone_and_together(integrated: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_device(monkeypatch)
    here = fake_gpu(integrated)
    (host,), _ = find_sides(environment(), "host", 96 * MIB)
    device = replace(host, side="device", memory="played")
    made: list[Any] = []
    steps: list[str] = []
    measure_sentinels(here, [host, device], plan(0.3), tmp_path / "t.jsonl", steps.append, made.append)

    runs = [m for m in made if isinstance(m, SentinelRun)]
    alone = {(r.side, r.phase) for r in runs if r.beside is None}
    assert alone == {(side, phase) for side in ("device", "host") for phase in ("before", "during", "after")}
    beside = {(r.side, r.phase, r.beside) for r in runs if r.beside is not None}
    assert beside == {("device", "during", "gemv on the CPU"), ("host", "during", "matmul on the GPU")}
    assert all(r.wrong == 0 for r in runs)
    (curve,) = (m for m in made if type(m).__name__ == "Contention")
    assert curve.sides == ("device", "host") and curve.shared is integrated and curve.wrong == 0
    assert (curve.ceiling is not None) is integrated and (curve.note is None) is integrated
    both = [p for p in curve.points if p.device and p.cpu_threads]
    assert both and all(p.gb_per_s > 0 and p.device_gb_per_s and p.host_gb_per_s for p in both)
    # Beside the samples stand the GPU's own results and no CPU's, and none of when it shared the memory.
    results = read_sampling(tmp_path / "t.jsonl", "here").sentinels
    assert len(results) == sum(r.side == "device" and r.beside is None for r in runs)
    assert {r.side for r in results} == {"device"}
    (rate, _) = (m for m in made if isinstance(m, MatmulRate))
    assert (rate.multiprocessors, rate.flops_per_cycle, rate.sm_clock_mhz) == (48, 1024, ())


def test_a_failure_on_one_side_ends_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_device(monkeypatch)
    from roofprobe.probes import sentinels

    (host,), _ = find_sides(environment(), "host", 96 * MIB)
    real = sentinels.sustain

    def breaks(loaded: Any, seconds: float, beside: str | None = None, *more: Any) -> None:
        if beside is not None and loaded.side.side == "device":
            raise RuntimeError("CUDA error: the launch timed out")
        real(loaded, seconds, beside, *more)

    monkeypatch.setattr(sentinels, "sustain", breaks)
    device = replace(host, side="device", memory="played")
    with pytest.raises(RuntimeError, match="timed out"):
        measure_sentinels(fake_gpu(True), [device, host], plan(0.2), tmp_path / "t", lambda _: None, lambda _: None)


def test_an_interruption_keeps_what_was_measured(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "roofprobe", "sentinels", "--side", "host", "--soak", "10m", "--out", str(out)]
    running = subprocess.Popen([*command, "--memory", "512M"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not (out / "telemetry.jsonl").exists() or b"copy" not in (out / "telemetry.jsonl").read_bytes():
            assert running.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        running.send_signal(signal.SIGINT)
        assert running.wait(60) == 3
    finally:
        running.kill()
        running.wait()
    run = read_run(out)
    assert run.ended is not None and run.ended.interrupted and len(run.sentinels) >= 2
    assert len(read_sampling(out / "telemetry.jsonl", "here").sentinels) == len(run.sentinels)


def test_the_product_is_left_out_where_it_would_take_the_weights_room_or_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (host,), _ = find_sides(environment(), "host", 96 * MIB)
    monkeypatch.setattr(sentinel_cases, "MATMUL_SIZES", {"host": (4096, 512)})
    monkeypatch.setattr(sentinel_cases, "_host_flops_per_second", lambda: 1e12)
    assert matmul_size(host) == 512, "128 MiB of matrices don't fit into 32 MiB beside the weights, 2 MiB do"
    tight = matmul_size(replace(host, array_bytes=5 * MIB))
    assert not isinstance(tight, int) and "raise --memory" in tight.reason
    monkeypatch.setattr(sentinel_cases, "HOST_MATMUL_SECONDS", 0.25)
    monkeypatch.setattr(sentinel_cases, "_host_flops_per_second", lambda: 1e8)
    slow = matmul_size(host)
    assert not isinstance(slow, int) and "0.1 GFLOP/s" in slow.reason


@pytest.mark.parametrize("largest", [1, 8])
def test_the_product_is_checked_to_the_last_bit(largest: int) -> None:
    import torch

    a, b = (whole_numbers(300, seed, largest, torch.device("cpu")) for seed in (1, 2))
    assert a.unique().tolist() == [float(i) for i in range(-largest, largest + 1)] and not torch.equal(a, b)
    exact = (a.double() @ b.double()).to(torch.bfloat16)
    assert wrong_products(a, b, exact) == 0
    for spoil in (float("nan"), exact[299, 7].item() + 2.0):
        c = exact.clone()
        c[299, 7] = spoil
        assert wrong_products(a, b, c) == 1
    assert wrong_products(a, b, exact.T.contiguous()) > 0.5 * exact.numel()


def test_a_disturbed_sample_is_taken_again_until_there_are_enough_or_it_is_hopeless() -> None:
    (host,), _ = find_sides(environment(), "host", 96 * MIB)
    for disturbed, taken, contended in ((0, 7, False), (3, 10, False), (100, 14, True)):
        readings = iter([Sample(2.0, "shared")] * disturbed + [Sample(1.0)] * 20)
        case = SimpleNamespace(
            name="copy", backend="host", poison=lambda: 0, count_wrong=lambda: 0, bytes=8, flops=None
        )
        prepared = SimpleNamespace(sample=lambda readings=readings: next(readings))
        made: list[SentinelRun] = []
        sampler: Any = SimpleNamespace(now=lambda: 0.0)
        every_sentinel(LoadedSide(host, [case], [prepared], sampler, made.append, False), "before")  # type: ignore[list-item]
        (run,) = made
        assert (len(run.seconds), len(run.rejected), run.contended) == (taken, min(disturbed, taken), contended)
        assert set(run.accepted) == {2.0 if contended else 1.0} and run.interval is not None


@pytest.mark.gpu
def test_on_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both sides, their contention and NVML; sizes are the real ones."""
    monkeypatch.undo()
    assert main(["--seconds", "3", "--out", str(tmp_path / "out")]) == 0
    run = read_run(tmp_path / "out")
    assert {s.sentinel for s in run.sentinels if s.side == "device" and s.phase == "during"} == {
        "gemv",
        "copy",
        "matmul",
    }
    sampling = read_sampling(tmp_path / "out" / "telemetry.jsonl", "here")
    assert len(sampling.samples) > 10 and max(s.utilization_pct or 0 for s in sampling.samples) > 80
    assert any(m.side == "device" and m.sm_clock_mhz for m in run.matmuls)
    assert run.contentions[0].sides == ("device", "host") and run.contentions[0].wrong == 0
