"""Records for tests of what follows from records. Every figure here is made up."""

from __future__ import annotations

from typing import Any

from roofprobe.alpha_beta import Segment, SegmentInterval
from roofprobe.measurement import (
    CollectiveMeasurement,
    CollectivePoint,
    Device,
    Environment,
    Measurement,
    Timing,
)

GPU = Device(
    index=0,
    name="NVIDIA GB10",
    compute_capability="12.1",
    multiprocessors=48,
    l2_bytes=24 << 20,
    memory_bytes=128 << 30,
    integrated=True,
)


def environment(**changes: Any) -> Environment:
    """An unknown machine without a GPU."""
    fields: dict[str, Any] = {
        "created": "2026-01-31T12:00:00+00:00",
        "roofprobe": "0.1.0",
        "host": "testhost",
        "platform": None,
        "product": None,
        "architecture": "aarch64",
        "kernel": "6.11",
        "cpu_model": "test CPU",
        "cpus": 2,
        "last_level_cache_bytes": 1 << 20,
        "memory_bytes": 1 << 34,
        "memory_available_bytes": 1 << 33,
        "python": "3.12.1",
        "interpreter": ".venv",
        "torch": "2.13.0",
        "triton": "3.9.0",
        "numba": "0.68.1",
        "cupy": None,
        "cuda": None,
        "driver": None,
        "nccl": None,
    }
    return Environment(**{**fields, **changes})


def timing(seconds: list[float], **changes: Any) -> Timing:
    """A timing whose samples are `seconds`."""
    fields: dict[str, Any] = {"clock": "perf-counter", "seconds": tuple(seconds), "stopped_by": "interval"}
    return Timing(**{**fields, **changes})


def measurement(**changes: Any) -> Measurement:
    """A host read of 1 GB in 10 ms: 100 GB/s."""
    fields: dict[str, Any] = {
        "probe": "memory",
        "op": "read",
        "format": "float32",
        "n": 250_000_000,
        "side": "host",
        "memory": "CPU side of test memory",
        "backend": "host",
        "useful_bytes": 1_000_000_000,
        "estimated_bus_bytes": 1_000_000_000,
        "timing": timing([0.010] * 7),
        "wrong": 0,
    }
    return Measurement(**{**fields, **changes})


def gemv(**changes: Any) -> Measurement:
    """A host GEMV of 1 GB in 12.5 ms, paired with reads of 2 GB in 20 ms: 80 % of the ceiling."""
    fields: dict[str, Any] = {
        "probe": "gemv",
        "op": "gemv",
        "format": "bf16",
        "n": 4096,
        "k": 8192,
        "batch": 1,
        "timing": timing([0.0125] * 7, reference_seconds=(0.020,) * 7),
        "reference": "read",
        "reference_bytes": 2_000_000_000,
    }
    return measurement(**{**fields, **changes})


def collective(**changes: Any) -> CollectiveMeasurement:
    """Two ranks: 20 us plus bus bytes at 10 GB/s."""
    points = tuple(
        CollectivePoint(
            bytes=size,
            count=size // 4,
            out_of_place_seconds=(20e-6 + size / 10e9,) * 5,
            in_place_seconds=(20e-6 + size / 10e9,) * 5,
            wrong=0,
        )
        for size in (1 << 10, 1 << 15, 1 << 20, 1 << 25)
    )
    fields: dict[str, Any] = {
        "op": "all_reduce",
        "world_size": 2,
        "backend": "gloo",
        "transport": "gloo over loopback, 2 ranks on this host",
        "dtype": "float",
        "bus_factor": 1.0,
        "points": points,
        "fit": (
            Segment(
                min_bytes=1 << 10,
                max_bytes=1 << 25,
                alpha_us=20.0,
                beta_gb_per_s=10.0,
                interval=SegmentInterval(alpha_us=(19.0, 21.0), beta_gb_per_s=(9.5, 10.5)),
            ),
        ),
    }
    return CollectiveMeasurement(**{**fields, **changes})
