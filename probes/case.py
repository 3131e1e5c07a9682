"""What the kernel probes, their baselines and the benchmarks time alike: a launch, its bytes, its check, its ceiling.

A case owns its weights and outputs. Where one weight would fit the caches there are several, in rotation, and the
check looks at every output that a launch has written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from roofprobe.measurement import Measurement
from roofprobe.probes.configs import stream_config
from roofprobe.probes.rotation import Rotation
from roofprobe.timing import Launch, measure

if TYPE_CHECKING:
    import torch

    from roofprobe.kernels.experts import Experts
    from roofprobe.kernels.formats import Weight
    from roofprobe.probes.memory import StreamBuffers
    from roofprobe.probes.sides import MeasuredSide

POISON = float("nan")
FUSED_ON_A_CPU = "compute-bound: decoding {} costs a CPU core more than reading it"


@dataclass(frozen=True)
class Operands:
    """What one row is made of: copies of W[N, K] in one format, the vectors x[B, K] of a GEMV, and the outputs."""

    format: str
    weights: Sequence[Weight]
    outputs: list[torch.Tensor]
    x: torch.Tensor | None = None

    @property
    def n(self) -> int:
        return int(self.weights[0].shape[0])

    @property
    def k(self) -> int:
        return int(self.weights[0].shape[1])

    @property
    def batch(self) -> int | None:
        return None if self.x is None else int(self.x.shape[0])


@dataclass(frozen=True)
class ExpertOperands:
    """What a row of a mixture of experts is made of: a stack W[E, N, K] and vectors x[T, K] for all copies; each copy
    has its own expert numbers [T, top_k], and an output [T, top_k, N]."""

    format: str
    experts: int
    """Of the layer; the stack holds those that some copy takes."""
    weights: Experts
    expert_ids: Sequence[torch.Tensor]
    outputs: list[torch.Tensor]
    x: torch.Tensor

    @property
    def n(self) -> int:
        return int(self.weights.shape[1])

    @property
    def k(self) -> int:
        return int(self.weights.shape[2])

    @property
    def batch(self) -> int:
        return int(self.x.shape[0])

    @property
    def top_k(self) -> int:
        return int(self.expert_ids[0].shape[1])


@dataclass(frozen=True)
class Case:
    """One row to measure. `run` does the work on one copy of the operands; `count_wrong`, if any, checks it."""

    probe: Literal["gemv", "dequant"]
    operands: Operands | ExpertOperands
    backend: str
    bytes_moved: int
    run: Callable[[int], object]
    count_wrong: Callable[[int], int] | None
    config: dict[str, Any]
    note: str | None = None


@dataclass(frozen=True)
class Ceiling:
    """The memory pattern that a case is paired with."""

    name: str
    launch: Launch
    bytes_moved: int


def compute_bound(side: MeasuredSide, weight_format: str) -> str | None:
    """What a GEMV's row says where decoding takes longer than reading: for quantized weights on a CPU."""
    return FUSED_ON_A_CPU.format(weight_format.upper()) if side.side == "host" and weight_format != "bf16" else None


def read_ceiling(side: MeasuredSide, buffers: StreamBuffers) -> Ceiling:
    """Reading one array: what a GEMV does."""
    from roofprobe.kernels import stream

    config = stream_config(side)
    partial_sums = stream.read(buffers.b, config=config)
    return Ceiling("read", lambda _: stream.read(buffers.b, out=partial_sums, config=config), buffers.n_bytes)


def copy_ceiling(side: MeasuredSide, buffers: StreamBuffers) -> Ceiling:
    """Copying one array: like a dequantization, it reads and writes."""
    from roofprobe.kernels import stream

    config = stream_config(side)
    return Ceiling("copy", lambda _: stream.copy(buffers.b, out=buffers.a, config=config), 2 * buffers.n_bytes)


def measure_case(case: Case, side: MeasuredSide, ceiling: Ceiling, seconds: float) -> Measurement:
    """Times `case` against `ceiling` within `seconds`, its outputs poisoned before and checked after."""
    operands = case.operands
    routed = operands if isinstance(operands, ExpertOperands) else None
    rotation = Rotation(case.run, operands.outputs, POISON)
    timing = measure(
        rotation.launch,
        side.stopwatch,
        side.limits(seconds),
        reference=ceiling.launch,
        poison=rotation.poison,
    )
    return Measurement(
        probe=case.probe,
        op=case.probe if routed is None else "grouped_gemv",
        format=operands.format,
        n=operands.n,
        k=operands.k,
        batch=operands.batch,
        experts=None if routed is None else routed.experts,
        top_k=None if routed is None else routed.top_k,
        side=side.side,
        memory=side.memory,
        backend=case.backend,
        config=case.config,
        useful_bytes=case.bytes_moved,
        estimated_bus_bytes=case.bytes_moved,
        timing=timing,
        reference=ceiling.name,
        reference_bytes=ceiling.bytes_moved,
        nominal_gb_per_s=side.nominal_gb_per_s,
        wrong=None if case.count_wrong is None else sum(map(case.count_wrong, rotation.written())),
        note=case.note,
    )
