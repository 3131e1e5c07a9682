"""Quantized weights to bf16: w[N, K] = code * block scale * scale, written out in full.

Each row is paired with the copy ceiling measured beside it: like a copy, it reads and writes memory. Bytes are codes
and scales read and values written, each once. Every element is checked, bit for bit. Other people's kernels for the
same work are measured beside ours (`baselines`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from roofprobe.arguments import parser
from roofprobe.measurement import Measurement, Skipped
from roofprobe.probes.baselines import dequant_rows
from roofprobe.probes.case import Case, Operands, copy_ceiling, measure_case
from roofprobe.probes.configs import config_record, dequant_config
from roofprobe.probes.weight_command import add_weight_flags, run_weights
from roofprobe.probes.weights import (
    QUANTIZED,
    Shape,
    Source,
    place,
)

if TYPE_CHECKING:
    from roofprobe.kernels.formats import QuantizedWeight, Weight
    from roofprobe.probes.memory import StreamBuffers
    from roofprobe.probes.sides import MeasuredSide


def probe_dequant(
    side: MeasuredSide,
    buffers: StreamBuffers,
    sources: Sequence[Source],
    seconds: float,
    on_step: Callable[[str], None],
    on_result: Callable[[Measurement | Skipped], None],
    baselines: bool = False,
) -> None:
    """Measures every weight on one side, each within `seconds`; with `baselines` other people's kernels too."""
    ceiling = copy_ceiling(side, buffers)
    for source in sources:
        on_step(f"{side.side} dequant {source}")
        operands = make_operands(side, source)
        on_result(measure_case(dequant_case(side, operands, source.note), side, ceiling, seconds))
        if baselines:
            dequant_rows(side, operands, ceiling, seconds, on_result)


def without_batches(shapes: Sequence[Shape]) -> list[Shape]:
    """The shapes that are different weights: a batch makes no other one."""
    return list(dict.fromkeys(Shape(shape.n, shape.k) for shape in shapes))


def make_operands(side: MeasuredSide, source: Source) -> Operands:
    """The weight in as many copies as it takes to outgrow the caches."""
    import torch

    at = place(source.shape, source.format, side, bytes_per_output=2)
    weights = [source.make(at.n, copy, side.device) for copy in range(at.copies)]
    outputs = [torch.empty(at.n, at.k, dtype=torch.bfloat16, device=side.device) for _ in weights]
    return Operands(source.format, weights, outputs)


def dequant_case(side: MeasuredSide, operands: Operands, note: str | None = None) -> Case:
    """Our kernel on these operands."""
    from roofprobe.kernels import dequant as kernel
    from roofprobe.kernels.dequant_check import count_wrong

    weights, outputs = [_quantized(weight) for weight in operands.weights], operands.outputs
    config = dequant_config(side)
    return Case(
        probe="dequant",
        operands=operands,
        backend=side.backend,
        bytes_moved=kernel.algorithmic_bytes(weights[0], outputs[0].dtype),
        run=lambda copy: kernel.dequantize(weights[copy], out=outputs[copy], config=config),
        count_wrong=lambda copy: count_wrong(weights[copy], outputs[copy]),
        config=config_record(config),
        note=note,
    )


def _quantized(weight: Weight) -> QuantizedWeight:
    import torch

    assert not isinstance(weight, torch.Tensor)
    return weight


def main(argv: list[str] | None = None) -> int:
    """Runs ``roofprobe dequant``; returns the exit status."""
    top = parser("roofprobe dequant", "Quantized weights to bf16, held against the copy ceiling of the same run.")
    add_weight_flags(top, QUANTIZED)
    return run_weights("dequant", top, top.parse_args(argv), QUANTIZED, probe_dequant)


if __name__ == "__main__":
    raise SystemExit(main())
