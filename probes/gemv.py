"""Decode's matrix-vector product y[B, N] = x[B, K] W[N, K]^T, as fast as its weights can be read.

Each row is paired with the read ceiling measured beside it. Bytes are the algorithm's: weights, scales, x and y, each
once. Results are checked element by element against float64, within the error bound that float32 accumulation in any
order can't exceed. Other people's kernels for the same product are measured beside ours (`baselines`). With
``--experts`` it is a mixture of experts' product (`grouped`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from roofprobe.arguments import parser, positive_int
from roofprobe.measurement import Measurement, Skipped
from roofprobe.probes.baselines import gemv_rows
from roofprobe.probes.case import Case, Operands, compute_bound, measure_case, read_ceiling
from roofprobe.probes.configs import config_record, gemv_config
from roofprobe.probes.grouped import add_expert_flags, run_experts
from roofprobe.probes.weight_command import add_weight_flags, run_weights
from roofprobe.probes.weights import (
    FORMATS,
    SEED,
    Placement,
    Source,
    place,
    random_source,
)

if TYPE_CHECKING:
    from roofprobe.probes.memory import StreamBuffers
    from roofprobe.probes.sides import MeasuredSide

MAX_BATCH = 16


def probe_gemv(
    side: MeasuredSide,
    buffers: StreamBuffers,
    sources: Sequence[Source],
    seconds: float,
    on_step: Callable[[str], None],
    on_result: Callable[[Measurement | Skipped], None],
    baselines: bool = False,
) -> None:
    """Measures every weight on one side, each within `seconds`; with `baselines` other people's kernels too."""
    ceiling = read_ceiling(side, buffers)
    for shape, of_shape in groupby(sources, key=lambda source: source.shape):
        measured = set()
        for source in of_shape:
            on_step(f"{side.side} gemv {source} batch {shape.batch}")
            operands = make_operands(side, source)
            on_result(measure_case(gemv_case(side, operands, source.note), side, ceiling, seconds))
            measured.add(source.format)
            if baselines:
                gemv_rows(side, operands, ceiling, seconds, on_result)
        if baselines and "bf16" not in measured:  # what the others are held against: torch has no GEMV of their own
            operands = make_operands(side, random_source(shape, "bf16"))
            gemv_rows(side, operands, ceiling, seconds, on_result)


def make_operands(side: MeasuredSide, source: Source, placement: Placement | None = None) -> Operands:
    """The weight in as many copies as it takes to outgrow the caches, and its vectors."""
    import torch

    at = placement or place(source.shape, source.format, side)
    generator = torch.Generator(device="cpu").manual_seed(SEED)
    x = torch.randn(at.batch, at.k, generator=generator).to(torch.bfloat16).to(side.device)
    weights = [source.make(at.n, copy, side.device) for copy in range(at.copies)]
    outputs = [torch.empty(at.batch, at.n, dtype=torch.bfloat16, device=side.device) for _ in weights]
    return Operands(source.format, weights, outputs, x)


def gemv_case(side: MeasuredSide, operands: Operands, note: str | None = None) -> Case:
    """Our kernel on these operands."""
    from roofprobe.kernels import gemv as kernel
    from roofprobe.kernels.gemv_check import count_wrong

    x, batch = operands.x, operands.batch
    assert x is not None and batch is not None
    config = gemv_config(side, operands.n, batch, operands.format, x)
    return Case(
        probe="gemv",
        operands=operands,
        backend=side.backend,
        bytes_moved=kernel.algorithmic_bytes(operands.weights[0], batch),
        run=lambda copy: kernel.gemv(operands.weights[copy], x, out=operands.outputs[copy], config=config),
        count_wrong=lambda copy: count_wrong(operands.weights[copy], x, operands.outputs[copy]),
        config=config_record(config),
        note="; ".join(filter(None, (note, compute_bound(side, operands.format)))) or None,
    )


def main(argv: list[str] | None = None) -> int:
    """Runs ``roofprobe gemv``; returns the exit status."""
    top = parser("roofprobe gemv", "Decode's matrix-vector product, held against the read ceiling of the same run.")
    add_weight_flags(top, FORMATS)
    add_expert_flags(top, "a grouped GEMV, of the chosen ones; default: one plain weight")
    top.add_argument("--batch", type=positive_int, default=1, help="vectors at once, 1 to 16 (default 1)")
    arguments = top.parse_args(argv)
    if arguments.batch > MAX_BATCH:
        top.error(f"argument --batch: {arguments.batch} is above {MAX_BATCH}: a larger batch is no longer a GEMV")
    if arguments.experts is not None:
        return run_experts(top, arguments)
    if arguments.top_k is not None:
        top.error("argument --top-k: needs --experts")
    return run_weights("gemv", top, arguments, FORMATS, probe_gemv)


if __name__ == "__main__":
    raise SystemExit(main())
