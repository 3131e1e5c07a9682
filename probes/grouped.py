"""Decode's products with a mixture of experts, y[t, i] = W[expert_ids[t, i]] x[t], against the read ceiling.

Each token takes `top_k` different experts of `experts`, all equally likely, as a router spreads them. Bytes are those
of the experts that are taken at all, each once however many tokens take it, and of the vectors and results. Launches
take turns at disjoint sets of experts, so that each finds its own gone from the caches; only the experts of some set
are held in memory, since nothing reads the others.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from roofprobe.arguments import positive_int
from roofprobe.errors import BadInput, run_command
from roofprobe.measurement import Measurement, Skipped
from roofprobe.probes.baselines import grouped_gemv_rows
from roofprobe.probes.case import Case, ExpertOperands, compute_bound, measure_case, read_ceiling
from roofprobe.probes.command import measure_sides
from roofprobe.probes.configs import config_record, gemv_config
from roofprobe.probes.weights import BLOCK, FORMATS, SEED, Placement, Shape, check_block, place, undivided

if TYPE_CHECKING:
    import torch

    from roofprobe.probes.memory import StreamBuffers
    from roofprobe.probes.sides import MeasuredSide


@dataclass(frozen=True)
class ExpertShape:
    """W[E, N, K] and the tokens, `batch` of them, of which each takes `top_k` of the E experts."""

    n: int
    k: int
    experts: int
    top_k: int
    batch: int = 1

    def __str__(self) -> str:
        return f"{self.n}x{self.k} top {self.top_k} of {self.experts}"


GPT_OSS = ExpertShape(5760, 2880, experts=128, top_k=4)
"""gpt-oss-120b's gate and up projections: 8.8 MB an expert in MXFP4."""


def add_expert_flags(parser: argparse.ArgumentParser, absent: str) -> None:
    """``--experts`` and ``--top-k``; `absent` says what is measured without them."""
    parser.add_argument("--experts", type=positive_int, metavar="E", help=f"experts of the layer ({absent})")
    parser.add_argument(
        "--top-k", type=positive_int, metavar="T", help=f"experts that a token takes (with --experts; {GPT_OSS.top_k})"
    )


def expert_shape(arguments: argparse.Namespace, batch: int = 1) -> ExpertShape:
    """What the flags ask for, and gpt-oss's figures where they are silent.

    Raises BadInput for a token that takes more experts than there are.
    """
    experts, top_k = arguments.experts or GPT_OSS.experts, arguments.top_k or GPT_OSS.top_k
    if top_k > experts:
        raise BadInput(f"--top-k: a token can't take {top_k} of {experts} experts; pass at most --experts")
    return ExpertShape(arguments.n or GPT_OSS.n, arguments.k or GPT_OSS.k, experts, top_k, batch)


def routing(shape: ExpertShape) -> torch.Tensor:
    """int32 [batch, top_k]: which experts each token takes, numbered from 0 without gaps."""
    import torch

    generator = torch.Generator(device="cpu").manual_seed(SEED)
    chosen = torch.rand(shape.batch, shape.experts, generator=generator).topk(shape.top_k).indices
    _, numbers = chosen.unique(return_inverse=True)
    return torch.as_tensor(numbers, dtype=torch.int32)


def place_experts(shape: ExpertShape, weight_format: str, side: MeasuredSide) -> Placement:
    """Rows of each expert and disjoint sets of them, in half an array's room: stacking holds each expert twice."""
    taken = int(routing(shape).max()) + 1
    at = place(Shape(shape.n, shape.k, shape.batch), weight_format, side, matrices=taken, arrays=0.5)
    return Placement(at.n, at.k, at.batch, min(at.copies, shape.experts // taken))


def make_operands(
    side: MeasuredSide, shape: ExpertShape, weight_format: str, at: Placement | None = None, seed: int = SEED
) -> ExpertOperands:
    """The experts in random order in one stack, and for each copy the numbers of those that it takes."""
    import torch

    from roofprobe.kernels.experts import random_experts

    at = at or place_experts(shape, weight_format, side)
    places = routing(shape)
    taken = int(places.max()) + 1
    generator = torch.Generator(device="cpu").manual_seed(seed)
    order = torch.randperm(at.copies * taken, generator=generator).to(torch.int32)
    x = torch.randn(at.batch, at.k, generator=generator).to(torch.bfloat16).to(side.device)
    output = (at.batch, shape.top_k, at.n)
    return ExpertOperands(
        format=weight_format,
        experts=shape.experts,
        weights=random_experts(weight_format, at.copies * taken, at.n, at.k, seed, side.device),
        expert_ids=[order[places + copy * taken].to(side.device) for copy in range(at.copies)],
        outputs=[torch.empty(output, dtype=torch.bfloat16, device=side.device) for _ in range(at.copies)],
        x=x,
    )


def grouped_case(side: MeasuredSide, o: ExpertOperands) -> Case:
    """Our kernel on these operands."""
    from roofprobe.kernels import grouped_gemv as kernel
    from roofprobe.kernels.grouped_gemv_check import count_wrong

    config = gemv_config(side, o.n * o.batch * o.top_k, 1)
    taken = f"{o.expert_ids[0].unique().numel()} of {o.experts} experts read"
    return Case(
        probe="gemv",
        operands=o,
        backend=side.backend,
        bytes_moved=kernel.algorithmic_bytes(o.weights, o.expert_ids[0]),
        run=lambda copy: kernel.grouped_gemv(o.weights, o.x, o.expert_ids[copy], out=o.outputs[copy], config=config),
        count_wrong=lambda copy: count_wrong(o.weights, o.x, o.expert_ids[copy], o.outputs[copy]),
        config=config_record(config),
        note="; ".join(filter(None, (taken, compute_bound(side, o.format)))),
    )


def probe_grouped(
    side: MeasuredSide,
    buffers: StreamBuffers,
    shapes: Sequence[ExpertShape],
    formats: Sequence[str],
    seconds: float,
    on_step: Callable[[str], None],
    on_result: Callable[[Measurement | Skipped], None],
    baselines: bool = False,
) -> None:
    """Measures every shape on one side in every format whose block divides its K, each within `seconds`."""
    ceiling = read_ceiling(side, buffers)
    for shape in shapes:
        ours = [name for name in formats if shape.k % BLOCK[name] == 0]
        for name in ours:
            on_step(f"{side.side} grouped_gemv {name} {shape} batch {shape.batch}")
            operands = make_operands(side, shape, name)
            on_result(measure_case(grouped_case(side, operands), side, ceiling, seconds))
            if baselines:
                grouped_gemv_rows(side, operands, ceiling, seconds, on_result)
        if baselines and "bf16" not in ours:  # what the others are held against
            grouped_gemv_rows(side, make_operands(side, shape, "bf16"), ceiling, seconds, on_result)


def run_experts(top: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    """``roofprobe gemv --experts``; returns the exit status."""
    if arguments.checkpoint is not None:
        top.error("argument --experts: a checkpoint's weights are measured one by one; choose one with --expert")
    check_block(top, arguments.k or GPT_OSS.k, arguments.format)
    formats = FORMATS if arguments.format is None else (arguments.format,)

    def command() -> int:
        shape = expert_shape(arguments, arguments.batch)
        return measure_sides(
            arguments,
            steps=len(formats),
            arrays=2,
            probe_side=lambda side, buffers, on_step, on_result: probe_grouped(
                side, buffers, [shape], formats, arguments.seconds, on_step, on_result, arguments.baselines
            ),
            skipped=undivided("gemv", [shape], formats),
        )

    return run_command(command, "roofprobe gemv")
