"""Profiles of a GB10 for tests of what is made of profiles. Every figure is made up."""

from __future__ import annotations

from typing import Any

import msgspec
from nccl_timings import LL2
from records import collective, environment, measurement, timing

from roofprobe.alpha_beta import Segment
from roofprobe.measurement import Device
from roofprobe.nccl_tuning import NcclCandidate, NcclRatio, NcclTuning
from roofprobe.profile import TuningProfile, build_profile
from roofprobe.run_file import Run
from roofprobe.tuned import TunedKernel

TRANSPORT = "NCCL, NET/IB, 2 ranks on 2 hosts"
GB10 = Device(
    index=0, name="NVIDIA GB10", compute_capability="12.1", multiprocessors=48, l2_bytes=24 << 20,
    memory_bytes=128_500_000_000, integrated=True,
)  # fmt: skip


def linked(world_size: int, alpha_us: float, transport: str, backend: str = "nccl") -> Any:
    """An all-reduce of alpha plus bus bytes at 20 GB/s, known by its fit alone."""
    piece = Segment(min_bytes=8, max_bytes=1 << 26, alpha_us=alpha_us, beta_gb_per_s=20.0)
    factor = 2 * (world_size - 1) / world_size
    return collective(
        world_size=world_size, bus_factor=factor, backend=backend, transport=transport, points=(), fit=(piece,)
    )


def spark(*collectives: Any, **changes: Any) -> TuningProfile:
    """A unit that reads 200 GB/s. Every figure is made up."""
    read = measurement(side="device", backend="triton", timing=timing([0.005] * 7))
    run = Run(
        environment=environment(
            devices=(GB10,), variables={"NCCL_IB_HCA": "rocep1s0f0,roceP2p1s0f0", "NCCL_DEBUG": "INFO"}
        ),
        measurements=(read,),
        collectives=collectives,
        skipped=(),
        ended=None,
    )
    return msgspec.structs.replace(build_profile(run), **changes)


def tuned_nccl(**changes: Any) -> NcclTuning:
    ratio = NcclRatio(bytes=1024, ratio=0.8, interval=(0.75, 0.85))
    fields: dict[str, Any] = {
        "world_size": 2, "nodes": 2, "transport": TRANSPORT, "nccl": "2.30.3", "created": "2026-01-31T12:00:00+00:00",
        "candidates": (NcclCandidate(setting=LL2, rounds=8, ratios=(ratio,)),), "everywhere": LL2, "bands": (),
    }  # fmt: skip
    return NcclTuning(**{**fields, **changes})


def tuned(op: str = "gemv", **changes: Any) -> TunedKernel:
    fields: dict[str, Any] = {
        "op": op, "format": "nvfp4", "n": 28672, "k": 8192, "side": "device", "backend": "triton",
        "config": {"warps": 8, "row_groups": 2, "tile_bytes": 256, "stages": 1, "decode": "fhfma"},
        "default": {"warps": 4, "row_groups": 4, "tile_bytes": 128, "stages": 1, "decode": "fhfma"},
        "keep_default": False, "speedup": 1.1, "interval": (1.05, 1.15), "margin": 0.01, "seconds": 1e-3,
        "bytes": 1_000_000, "tried": 84, "created": "2026-01-31T12:00:00+00:00", "kernels": "0123456789abcdef",
    }  # fmt: skip
    return TunedKernel(**{**fields, **changes})
