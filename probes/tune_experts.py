"""The grouped GEMV for the tuner: the GEMV's own configurations, on the tokens and experts of the kernel probe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from roofprobe.probes.grouped import ExpertShape, make_operands, place_experts, routing
from roofprobe.probes.tune_workloads import BYTES_PER_OUTPUT, Operands, Target, gpu, stored_bytes, subject
from roofprobe.probes.weights import Placement

if TYPE_CHECKING:
    from roofprobe.probes.sides import MeasuredSide

ID_BYTES = 4


def grouped_target(weight_format: str, shape: ExpertShape, side: MeasuredSide, seconds: float) -> Target:
    """A grouped GEMV: of the experts' bytes only those count that some token takes."""
    from roofprobe.kernels import search

    at = place_experts(shape, weight_format, side)
    pairs = at.batch * shape.top_k
    read = (int(routing(shape).max()) + 1) * stored_bytes(weight_format, at.n, at.k)
    moved = read + BYTES_PER_OUTPUT * (at.batch * at.k + pairs * at.n) + ID_BYTES * pairs
    if side.side == "host":
        space: Sequence[object] = search.host_space("grouped_gemv", read)
    else:  # as many programs as for one matrix with the rows of all pairs; vectors are not shared within a program
        space = search.gemv_space(weight_format, at.n * pairs, at.k, 1, *gpu(side), grouped=True)
    name = f"{side.side} grouped_gemv {weight_format} {at.n}x{at.k} top {shape.top_k} of {shape.experts} b{at.batch}"
    return Target(
        op="grouped_gemv",
        format=weight_format,
        n=at.n,
        k=at.k,
        batch=at.batch,
        side=side,
        bytes=moved,
        subject=subject(
            name, space, lambda seed: _operands(side, shape, at, weight_format, seed), side, seconds, moved
        ),
        experts=shape.experts,
        top_k=shape.top_k,
    )


def _operands(side: MeasuredSide, shape: ExpertShape, at: Placement, weight_format: str, seed: int) -> Operands:
    import torch

    from roofprobe.kernels.grouped_gemv import grouped_gemv
    from roofprobe.kernels.grouped_gemv_check import count_wrong

    made = make_operands(side, shape, weight_format, at, seed)
    stack, x, ids = made.weights, made.x, made.expert_ids
    return Operands(
        op="grouped_gemv",
        side=side,
        copies=at.copies,
        poison=float("nan"),
        make_output=lambda _: torch.empty_like(made.outputs[0]),
        run=lambda copy, out, config: grouped_gemv(stack, x, ids[copy], out=out, config=config, backend=side.backend),
        count_wrong=lambda copy, out: count_wrong(stack, x, ids[copy], out),
    )
