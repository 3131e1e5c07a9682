"""SYNTHETIC runs for the report's tests: made-up figures from a fixed seed, measured on no machine.

Each stands for a kind of run that a report must tell truly: an unknown computer with a CPU only, a GB10 with both sides
of its memory, faulty readings, nothing but skipped cases, an interrupted run, and texts that try to break the page.
"""

from __future__ import annotations

from pathlib import Path
import random
from typing import Any, TypeAlias

from msgspec.structs import replace
import records

from roofprobe.alpha_beta import Segment, SegmentInterval
from roofprobe.measurement import (
    CollectiveMeasurement,
    CollectivePoint,
    Device,
    Ended,
    Environment,
    Measurement,
    Side,
    Skipped,
    Timing,
)
from roofprobe.run_file import AnyRecord, Run, RunWriter

CPU_MEMORY = "CPU side of memory (Example CPU 3000)"
LOOPBACK = "gloo over lo (two ranks on this host)"
WHOLE = Ended(seconds=48.2, interrupted=False)
UNIFIED = "CPU side of unified LPDDR5X"
GB10_NOMINAL = 273.1

Where: TypeAlias = tuple[Side, str, float | None]
"""Side, memory, nominal GB/s."""


def save(run: Run, directory: Path) -> Path:
    """Writes a run as the probes do and returns its folder."""
    writer = RunWriter(directory / "measurements.jsonl")
    lines: list[AnyRecord] = [run.environment, *run.measurements, *run.collectives, *run.skipped]
    for record in lines if run.ended is None else [*lines, run.ended]:
        writer.write(record)
    writer.close()
    return directory


def unknown_cpu() -> Run:
    """A computer without a platform file: host rows only, no nominal ceiling, gloo on loopback."""
    host: Where = ("host", CPU_MEMORY, None)
    rows = [
        *stream(host, {"read": 34.1, "copy": 41.2, "write": 38.9, "triad": 42.6}),
        kernel(host, "gemv", "bf16", (4096, 4096), 30.4, 34.1),
        kernel(host, "gemv", "nvfp4", (4096, 4096), 6.2, 34.1, note="compute-bound on a CPU"),
        kernel(host, "dequant", "nvfp4", (4096, 14336), 38.5, 41.2),
    ]
    skipped = [Skipped(probe="memory", case="device", reason="no CUDA device")]
    return run(environment(), rows, [collective(61.0, 2.9, largest=4 << 20, transport=LOOPBACK)], skipped)


def gb10() -> Run:
    """A GB10 machine: GPU and CPU sides of one memory, one core type alone, a hot row, a link between two nodes."""
    gpu = graphics("NVIDIA GB10", "12.1", 48, 24 << 20, 130_562_523_136, integrated=True)
    device: Where = ("device", gpu.name, GB10_NOMINAL)
    host: Where = ("host", UNIFIED, GB10_NOMINAL)
    little: Where = ("host", f"{UNIFIED}, 10x Cortex-A725 only", GB10_NOMINAL)
    rows = [
        *stream(device, {"read": 231.8, "copy": 222.4, "write": 218.0, "triad": 220.9}),
        kernel(device, "gemv", "bf16", (5120, 5120), 221.5, 231.8),
        kernel(device, "gemv", "nvfp4", (5120, 5120), 213.0, 231.8),
        kernel(device, "gemv", "nvfp4", (14336, 4096), 226.3, 231.8, batch=4),
        kernel(device, "gemv", "nvfp4", (2048, 2048), 912.0, None, residency="hot"),
        kernel(device, "dequant", "nvfp4", (14336, 4096), 209.8, 222.4),
        *stream(host, {"read": 118.2, "copy": 104.9, "write": 97.3, "triad": 106.1}),
        *stream(little, {"read": 71.5, "copy": 66.0}),
        kernel(host, "gemv", "bf16", (5120, 5120), 101.4, 118.2),
        kernel(host, "dequant", "nvfp4", (14336, 4096), 95.0, 104.9),
    ]
    transport = "NET/IB over rocep1s0f0, roceP2p1s0f0"
    link = collective(29.0, 23.4, largest=64 << 20, transport=transport, backend="nccl")
    return run(environment("dgx-spark", "NVIDIA DGX Spark", gpu), rows, [link], [])


def baselines() -> Run:
    """Other libraries' kernels beside ours on both sides, one of them long to name, and a layer with experts."""
    gpu = graphics("NVIDIA H200", "9.0", 132, 50 << 20, 150_754_820_096, integrated=False)
    device: Where = ("device", gpu.name, 4800.0)
    host: Where = ("host", CPU_MEMORY, None)
    experts = {"experts": 128, "top_k": 4}
    rows = [
        *stream(device, {"read": 4480.0, "copy": 4130.0}),
        *(replace(m, backend="cupy", config={}) for m in stream(device, {"read": 4440.0, "copy": 4090.0})),
        kernel(device, "gemv", "bf16", (28672, 8192), 4390.0, 4480.0),
        kernel(device, "gemv", "bf16", (28672, 8192), 4120.0, 4480.0, backend="torch", config={}),
        kernel(device, "gemv", "bf16", (28672, 8192), 4010.0, 4480.0, backend="cupy", config={}),
        kernel(device, "gemv", "bf16", (28672, 8192), 3890.0, 4480.0, backend="torch", config={}, batch=4),
        kernel(device, "gemv", "nvfp4", (28672, 8192), 3900.0, 4480.0),
        kernel(device, "gemv", "nvfp4", (28672, 8192), 2600.0, 4480.0, backend="flashinfer", config={}),
        kernel(device, "gemv", "nvfp4", (28672, 8192), 2450.0, 4480.0, backend="gemlite", config={}, wrong=None),
        kernel(device, "grouped_gemv", "bf16", (5760, 2880), 4200.0, 4480.0, **experts),
        kernel(device, "grouped_gemv", "bf16", (5760, 2880), 2900.0, 4480.0, backend="torch", config={}, **experts),
        kernel(device, "dequant", "nvfp4", (28672, 8192), 3980.0, 4130.0),
        kernel(device, "dequant", "nvfp4", (28672, 8192), 310.0, 4130.0, backend="torch", config={}),
        kernel(device, "dequant", "nvfp4", (28672, 8192), 420.0, 4130.0, backend="torchao", config={}),
        *stream(host, {"read": 34.1, "copy": 41.2}),
        kernel(host, "gemv", "bf16", (4096, 4096), 30.4, 34.1),
        kernel(host, "gemv", "bf16", (4096, 4096), 29.9, 34.1, backend="torch", config={}),
    ]
    return run(environment("h200-sxm", None, gpu), rows, [], [])


def faulty() -> Run:
    """Every reading that can't be trusted: impossible, wrong, disturbed throughout and mostly; a wrong sum."""
    host: Where = ("host", UNIFIED, GB10_NOMINAL)
    rows = [
        *stream(host, {"read": 118.2, "copy": 104.9, "write": 301.2}),
        kernel(host, "gemv", "nvfp4", (5120, 5120), 99.0, 118.2, wrong=12),
        kernel(host, "gemv", "bf16", (5120, 5120), 99.0, 118.2, rejected=15),
        kernel(host, "dequant", "nvfp4", (5120, 5120), 88.0, 104.9, rejected=9),
    ]
    sums = collective(61.0, 2.9, wrong_at=1 << 10, transport=LOOPBACK)
    return run(environment("dgx-spark", "NVIDIA DGX Spark"), rows, [sums], [])


def only_skipped() -> Run:
    """A machine on which nothing could be measured."""
    skipped = [
        Skipped(probe="memory", case="host", reason="needs 1.0 GiB, 0.2 GiB available"),
        Skipped(probe="allreduce", case="2 ranks", reason="gloo is not in this build of torch"),
    ]
    return run(environment(), [], [], skipped)


def interrupted(*, killed: bool = False) -> Run:
    """Ctrl-C (or, `killed`, no end record at all) after the first two rows."""
    rows = stream(("host", CPU_MEMORY, None), {"read": 34.1, "copy": 41.2})
    return run(environment(), rows, [], [], None if killed else Ended(seconds=9.0, interrupted=True))


HOSTILE = (
    "<script>document.title='owned'</script>",
    '"><img src=x onerror="document.title=\'owned\'">',
    "</style><svg onload=alert(1)>$\\frac{1}{$ {{ 7*7 }} {% raw %}",
    "x" * 400,
)


def hostile() -> Run:
    """Markup, a template's and a formula's syntax and an endless word wherever a record holds text."""
    script, image, style, long = HOSTILE
    gpu = graphics(script, image, 1, 1, 1, integrated=False)
    where = environment(
        script, image, gpu, cpu_model=style, host=long, created=script, variables={image: style}, kernel="6.11"
    )
    rows = [
        kernel(("device", style, None), image, script, (64, 64), 10.0, 12.0, note=long),
        kernel(("host", long, None), "gemv", long, (64, 64), 10.0, 12.0, note=script),
    ]
    link = collective(50.0, 3.0, transport=style, backend=image, op=script, dtype=long)
    return run(where, rows, [link], [Skipped(probe=script, case=image, reason=long)])


def run(
    where: Environment,
    measurements: list[Measurement],
    collectives: list[CollectiveMeasurement],
    skipped: list[Skipped],
    ended: Ended | None = WHOLE,
) -> Run:
    """A run of these records."""
    return Run(
        environment=where,
        measurements=tuple(measurements),
        collectives=tuple(collectives),
        skipped=tuple(skipped),
        ended=ended,
    )


def environment(
    platform: str | None = None, product: str | None = None, *devices: Device, **changes: Any
) -> Environment:
    """An environment record; a machine of its own unless a platform is given."""
    fields: dict[str, Any] = {
        "created": "2026-01-02T03:04:05+00:00",
        "host": "synthetic-example",
        "cpu_model": "Example CPU 3000 (synthetic)",
        "kernel": "6.11.0-synthetic",
        "cpus": 20 if devices else 2,
        "variables": {"OMP_NUM_THREADS": "2"},
        **({"triton": "3.6.0", "cuda": "13.0", "driver": "580.95", "nccl": "2.28.9"} if devices else {"triton": None}),
    }
    return records.environment(platform=platform, product=product, devices=devices, **{**fields, **changes})


def graphics(name: str, capability: str, multiprocessors: int, l2: int, memory: int, *, integrated: bool) -> Device:
    """The first CUDA device."""
    return Device(
        index=0,
        name=name,
        compute_capability=capability,
        multiprocessors=multiprocessors,
        l2_bytes=l2,
        memory_bytes=memory,
        integrated=integrated,
    )


def stream(where: Where, gb_per_s: dict[str, float]) -> list[Measurement]:
    """One row for each STREAM pattern at these rates, over arrays of 1 GiB."""
    side, memory, nominal = where
    moved = {"read": 1, "write": 1, "copy": 2, "triad": 3}
    rows = []
    for op, figure in gb_per_s.items():
        paired = op != "read"
        rows.append(
            records.measurement(
                op=op,
                n=1 << 28,
                side=side,
                memory=memory,
                backend="triton" if side == "device" else "host",
                config={"block": 4096, "num_warps": 8}
                if side == "device"
                else {"threads": 2, "stores": "non-temporal"},
                useful_bytes=moved[op] << 30,
                timing=timing((moved[op] << 30) / figure / 1e9, (1 << 30) / gb_per_s["read"] / 1e9 if paired else None),
                reference="read" if paired else None,
                reference_bytes=1 << 30 if paired else None,
                nominal_gb_per_s=nominal,
            )
        )
    return rows


def kernel(
    where: Where,
    op: str,
    format_: str,
    shape: tuple[int, int],
    gb_per_s: float,
    ceiling: float | None,
    *,
    rejected: int = 0,
    **changes: Any,
) -> Measurement:
    """One kernel's row at this rate on (side, memory, nominal), paired with a reference of 1 GiB at `ceiling`."""
    side, memory, nominal = where
    n, k = shape
    weight = n * k * 2 if format_ == "bf16" else n * k * 9 // 16
    useful = weight + (2 * n * k if op == "dequant" else 4 * (n + k))
    fields: dict[str, Any] = {
        "probe": "dequant" if op == "dequant" else "gemv",
        "op": op,
        "format": format_,
        "n": n,
        "k": k,
        "side": side,
        "memory": memory,
        "backend": "triton" if side == "device" else "host",
        "config": {"block_n": 64, "block_k": 256, "num_warps": 4} if side == "device" else {"threads": 2},
        "useful_bytes": useful,
        "timing": timing(useful / gb_per_s / 1e9, None if ceiling is None else (1 << 30) / ceiling / 1e9, rejected),
        "reference": None if ceiling is None else "copy" if op == "dequant" else "read",
        "reference_bytes": None if ceiling is None else 1 << 30,
        "nominal_gb_per_s": nominal,
    }
    return records.gemv(**{**fields, **changes})


def timing(seconds: float, reference: float | None, rejected: int = 0, count: int = 15) -> Timing:
    """`count` samples within 1.5 % of `seconds`, the first `rejected` of them disturbed."""
    noise = random.Random(round(seconds * 1e12))
    return Timing(
        clock="perf-counter",
        seconds=tuple(seconds * noise.uniform(0.985, 1.015) for _ in range(count)),
        reference_seconds=()
        if reference is None
        else tuple(reference * noise.uniform(0.99, 1.01) for _ in range(count)),
        rejected=dict.fromkeys(range(rejected), "waited for a CPU"),
        stopped_by="time-limit" if rejected else "interval",
    )


def collective(
    alpha_us: float, beta: float, *, largest: int = 1 << 20, wrong_at: int | None = None, **changes: Any
) -> CollectiveMeasurement:
    """Messages of 8 B to `largest` in steps of 2, within 8 % of alpha + bytes / beta, and that line as the fit."""
    noise = random.Random(7)
    sizes = [8 << i for i in range((largest // 8).bit_length())]

    def samples(message: int) -> tuple[float, ...]:
        middle = (alpha_us * 1e-6 + message / beta / 1e9) * noise.uniform(0.94, 1.08)
        return tuple(middle * noise.uniform(0.99, 1.01) for _ in range(9))

    points = [
        CollectivePoint(
            bytes=message,
            count=message // 4,
            out_of_place_seconds=samples(message),
            in_place_seconds=samples(message),
            wrong=3 if message == wrong_at else 0,
        )
        for message in sizes
    ]
    interval = SegmentInterval(alpha_us=(alpha_us * 0.97, alpha_us * 1.03), beta_gb_per_s=(beta * 0.98, beta * 1.02))
    line = Segment(
        min_bytes=8,
        max_bytes=largest,
        alpha_us=alpha_us,
        beta_gb_per_s=beta,
        interval=interval,
        n_half_bytes=alpha_us * beta * 1e3,
        error_fraction=0.08 if wrong_at is None else 0.9,
    )
    return records.collective(points=tuple(points), fit=(line,), **changes)
