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
from roofprobe.timing import Launch, measure

if TYPE_CHECKING:
    import torch

    from roofprobe.kernels.formats import Weight
    from roofprobe.probes.memory import StreamBuffers
    from roofprobe.probes.sides import MeasuredSide

POISON = float("nan")


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
class Case:
    """One row to measure. `run` does the work on one copy of the operands; `count_wrong`, if any, checks it."""

    probe: Literal["gemv", "dequant"]
    operands: Operands
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
    launched: set[int] = set()
    before: set[int] = set()

    def launch(count: int) -> None:
        copy = count % len(operands.weights)
        launched.add(copy)
        case.run(copy)

    def poison() -> None:
        for out in operands.outputs:
            out.fill_(POISON)
        before.update(launched)
        launched.clear()

    timing = measure(
        launch,
        side.stopwatch,
        side.limits(seconds),
        reference=ceiling.launch,
        poison=poison,
    )
    # A captured graph is replayed without a call of `launch`: then what counts is what was captured.
    timed = sorted(launched or before)
    return Measurement(
        probe=case.probe,
        op=case.probe,
        format=operands.format,
        n=operands.n,
        k=operands.k,
        batch=operands.batch,
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
        wrong=None if case.count_wrong is None else sum(map(case.count_wrong, timed)),
        note=case.note,
    )
