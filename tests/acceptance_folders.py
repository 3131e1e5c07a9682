"""SYNTHETIC run folders for the acceptance's tests: a healthy GB10 unit and a healthy pair, and ways to spoil them.

Figures are those of GB10.md's healthy units with a little noise from a fixed seed; no machine measured them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
import json
from pathlib import Path
import random
from typing import Any

from msgspec.structs import replace
import records

from roofprobe.load_record import Contention, ContentionPoint, MatmulRate, SentinelRun, SharedCeiling
from roofprobe.measurement import (
    CollectiveMeasurement,
    CollectivePoint,
    Device,
    Ended,
    Environment,
    Measurement,
    Timing,
)
from roofprobe.run_file import AnyRecord, Run, RunWriter

NOMINAL = 273.1
GPU_MEMORY = "NVIDIA GB10, unified LPDDR5X"
CPU_MEMORY = "CPU side of unified LPDDR5X"
ROCE = "NCCL, RoCE over rocep1s0f0 and roceP2p1s0f0, 2 ranks on 2 hosts"


def gb10_environment(**changes: Any) -> Environment:
    device = Device(
        index=0,
        name="NVIDIA GB10",
        compute_capability="12.1",
        multiprocessors=48,
        l2_bytes=24 << 20,
        memory_bytes=130_562_523_136,
        integrated=True,
    )
    fields: dict[str, Any] = {
        "host": "spark-1",
        "platform": "dgx-spark",
        "product": "NVIDIA NVIDIA_DGX_Spark A.7",
        "driver": "580.95.05",
        "devices": (device,),
    }
    return records.environment(**{**fields, **changes})


def noisy(value: float, seed: int, count: int = 15, spread: float = 0.004) -> tuple[float, ...]:
    noise = random.Random(seed)
    return tuple(value * noise.uniform(1 - spread, 1 + spread) for _ in range(count))


def row(side: str, op: str, format_: str, gb_per_s: float, seed: int, ceiling: float | None = None) -> Measurement:
    """One process' row at this rate, paired with a read or a copy of 1 GiB at `ceiling`."""
    memory_row = ceiling is None
    useful = 1 << 30 if memory_row else 470 << 20
    timing = Timing(
        clock="cuda-graph" if side == "device" else "perf-counter",
        seconds=noisy(useful / gb_per_s / 1e9, seed),
        reference_seconds=() if ceiling is None else noisy((1 << 30) / ceiling / 1e9, seed + 1),
        stopped_by="interval",
    )
    return Measurement(
        probe="memory" if memory_row else op,  # type: ignore[arg-type]
        op=op,
        format=format_,
        n=1 << 28 if memory_row else 28672,
        k=None if memory_row else 8192,
        batch=1 if op == "gemv" else None,
        side=side,  # type: ignore[arg-type]
        memory=GPU_MEMORY if side == "device" else CPU_MEMORY,
        backend="triton" if side == "device" else "host",
        useful_bytes=useful,
        estimated_bus_bytes=useful,
        timing=timing,
        reference=None if memory_row else "copy" if op == "dequant" else "read",
        reference_bytes=None if memory_row else 1 << 30,
        nominal_gb_per_s=NOMINAL,
        wrong=0,
    )


def gb10_rows(processes: int = 3) -> list[Measurement]:
    rows = []
    for seed in range(0, 100 * processes, 100):
        rows += [row("device", "read", "float32", 232.0, seed), row("device", "copy", "float32", 222.0, seed + 2)]
        rows += [row("device", "gemv", name, 226.0, seed + 4 + i, 232.0) for i, name in enumerate(("bf16", "fp8"))]
        rows += [row("device", "gemv", name, 215.0, seed + 8 + i, 232.0) for i, name in enumerate(("nvfp4", "mxfp4"))]
        formats = ("fp8", "nvfp4", "mxfp4")
        rows += [row("device", "dequant", name, 210.0, seed + 20 + i, 222.0) for i, name in enumerate(formats)]
        rows += [row("host", "read", "float32", 120.0, seed + 30)]
    return rows


def sentinel(name: str, phase: str, gb_per_s: float, t_s: float, seed: int, **changes: Any) -> SentinelRun:
    fields: dict[str, Any] = {
        "sentinel": name,
        "phase": phase,
        "t_s": t_s,
        "side": "device",
        "memory": GPU_MEMORY,
        "backend": "triton",
        "seconds": noisy((256 << 20) / gb_per_s / 1e9, seed, 9),
        "bytes": 256 << 20,
        "nominal_gb_per_s": NOMINAL,
        "wrong": 0,
    }
    return SentinelRun(**{**fields, **changes})


def gb10_sentinels() -> list[SentinelRun]:
    phases = ["before"] * 3 + ["during"] * 5 + ["after"] * 3
    runs = [sentinel("gemv", phase, 228.0, i, 500 + i) for i, phase in enumerate(phases)]
    return runs + [sentinel("copy", phase, 221.0, i + 0.5, 600 + i) for i, phase in enumerate(phases)]


def gb10_matmul() -> MatmulRate:
    return MatmulRate(
        side="device",
        processor="NVIDIA GB10",
        backend="torch",
        m=8192,
        n=8192,
        k=8192,
        timing=records.timing(list(noisy(2 * 8192**3 / 86e12, 700))),
        sm_clock_mhz=(2400.0,) * 5,
        multiprocessors=48,
        flops_per_cycle=1024,
        wrong=0,
    )


def gb10_contention() -> Contention:
    point = ContentionPoint(
        device=True, cpu_threads=10, window_seconds=0.1, device_bytes=noisy(15e9, 1), host_bytes=noisy(7.8e9, 2)
    )
    return Contention(
        sides=("device", "host"),
        op="read",
        memory="unified LPDDR5X",
        shared=True,
        points=(point,),
        ceiling=SharedCeiling(
            gb_per_s=228.0, interval=(226.0, 230.0), at_least_gb_per_s=229.0, saturated_points=9, saturated_cases=3
        ),
        wrong=0,
    )


def pair(op: str, busbw: float = 24.0, alpha_us: float = 30.0, **changes: Any) -> CollectiveMeasurement:
    """A collective over a healthy pair: 30 us plus bus bytes at 24 GB/s."""
    factor = 1.0 if op == "all_reduce" else 0.5

    def seconds(size: int, seed: int) -> tuple[float, ...]:
        return noisy(alpha_us * 1e-6 + factor * size / busbw / 1e9, seed, 20)

    points = tuple(
        CollectivePoint(
            bytes=size,
            count=size // 4,
            out_of_place_seconds=seconds(size, size),
            in_place_seconds=seconds(size, size + 1),
            wrong=0,
        )
        for size in (8 << 10, 16 << 10, 32 << 10, 1 << 20, 64 << 20, 512 << 20)
    )
    fields: dict[str, Any] = {
        "op": op,
        "backend": "nccl",
        "transport": ROCE,
        "bus_factor": factor,
        "points": points,
        "fit": (),
    }
    return records.collective(**{**fields, **changes})


def telemetry_lines(**changes: Any) -> list[str]:
    """A minute of a busy, cool and unthrottled GB10, twice a second, with its sentinels' results."""
    fields: dict[str, Any] = {
        "utilization_pct": 97,
        "sm_clock_mhz": 2400,
        "power_w": 62.0,
        "temperature_c": 66,
        "p_state": "P0",
        "reasons": [],
    }
    lines = [json.dumps({"t_s": i / 2, **fields, **changes}) for i in range(120)]
    for i in range(0, 60, 5):
        lines += [json.dumps({"t_s": i + 0.1, "sentinel": "gemv", "gb_per_s": 228.0})]
        lines += [json.dumps({"t_s": i + 0.2, "sentinel": "copy", "gb_per_s": 221.0})]
    return lines


def gb10_run(collectives: Sequence[CollectiveMeasurement] = ()) -> Run:
    return Run(
        environment=gb10_environment(),
        measurements=tuple(gb10_rows()),
        collectives=tuple(collectives),
        skipped=(),
        sentinels=tuple(gb10_sentinels()),
        matmuls=(gb10_matmul(),),
        contentions=(gb10_contention(),),
        ended=Ended(seconds=400.0, interrupted=False),
    )


def records_of(run: Run) -> list[AnyRecord]:
    """The lines of measurements.jsonl."""
    ended = () if run.ended is None else (run.ended,)
    lines: list[AnyRecord] = [run.environment, *run.measurements, *run.collectives, *run.sentinels, *run.matmuls]
    return [*lines, *run.contentions, *run.skipped, *ended]


def save(
    run: Run, folder: Path, faults: Sequence[dict[str, str]] | None = (), telemetry: Sequence[str] | None = None
) -> Path:
    """Writes a run's folder as `roofprobe accept` leaves it; None leaves doctor.json out, [] telemetry.jsonl empty."""
    writer = RunWriter(folder / "measurements.jsonl")
    for record in records_of(run):
        writer.write(record)
    writer.close()
    if faults is not None:
        (folder / "doctor.json").write_text(json.dumps({"faults": list(faults), "facts": {}}))
    told = telemetry_lines() if telemetry is None else telemetry
    (folder / "telemetry.jsonl").write_text("".join(f"{line}\n" for line in told))
    return folder


def with_rows(run: Run, change: Callable[[Measurement], Measurement | None]) -> Run:
    """The run with every row changed, or left out for None."""
    changed = [change(m) for m in run.measurements]
    return replace(run, measurements=tuple(m for m in changed if m is not None))


def pair_run() -> Run:
    return gb10_run([pair("all_reduce"), pair("all_gather")])
