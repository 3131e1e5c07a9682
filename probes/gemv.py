"""Decode's matrix-vector product y[B, N] = x[B, K] W[N, K]^T, as fast as its weights can be read.

Each row is paired with the read ceiling measured beside it. Bytes are the algorithm's: weights, scales, x and y, each
once. Results are checked element by element against float64, within the error bound that float32 accumulation in any
order can't exceed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from roofprobe.arguments import parser, positive_int
from roofprobe.measurement import Measurement
from roofprobe.probes.command import add_flags, run_probe
from roofprobe.probes.configs import config_record, gemv_config, stream_config
from roofprobe.probes.weights import FORMATS, Placement, Shape, add_shape_flags, place, shapes_from
from roofprobe.timing import measure

if TYPE_CHECKING:
    import torch

    from roofprobe.kernels.formats import NVFP4Weight
    from roofprobe.probes.memory import StreamBuffers
    from roofprobe.probes.sides import MeasuredSide

SEED = 0x7A3D
POISON = float("nan")
MAX_BATCH = 16
FUSED_ON_A_CPU = "compute-bound: decoding NVFP4 costs a CPU core more than reading it"


def probe_gemv(
    side: MeasuredSide,
    buffers: StreamBuffers,
    shapes: Sequence[Shape],
    seconds: float,
    on_step: Callable[[str], None],
    on_result: Callable[[Measurement], None],
    formats: Sequence[str] = FORMATS,
) -> None:
    """Measures every shape in every format on one side, each within `seconds`."""
    for shape in shapes:
        for weight_format in formats:
            on_step(f"{side.side} gemv {weight_format} {shape.n}x{shape.k} batch {shape.batch}")
            on_result(_measure(side, buffers, place(shape, weight_format, side), weight_format, seconds))


def make_weight(weight_format: str, n: int, k: int, seed: int, device: torch.device) -> torch.Tensor | NVFP4Weight:
    """A weight of random values that never repeat."""
    from roofprobe.kernels import formats

    make = formats.random_bf16 if weight_format == "bf16" else formats.random_nvfp4
    return make(n, k, seed=seed, device=device)


def _measure(
    side: MeasuredSide, buffers: StreamBuffers, placement: Placement, weight_format: str, seconds: float
) -> Measurement:
    import torch

    from roofprobe.kernels import gemv as kernel
    from roofprobe.kernels import stream
    from roofprobe.kernels.gemv_check import count_wrong

    n, k, batch, copies = placement.n, placement.k, placement.batch, placement.copies
    generator = torch.Generator(device="cpu").manual_seed(SEED)
    x = torch.randn(batch, k, generator=generator).to(torch.bfloat16).to(side.device)
    weights = [make_weight(weight_format, n, k, SEED + i, side.device) for i in range(copies)]
    outputs = [torch.empty(batch, n, dtype=torch.bfloat16, device=side.device) for _ in range(copies)]
    config = gemv_config(side, n, batch)
    read_config = stream_config(side)
    partial_sums = stream.read(buffers.b, config=read_config)
    launched: set[int] = set()

    def launch(count: int) -> None:
        copy = count % copies
        launched.add(copy)
        kernel.gemv(weights[copy], x, out=outputs[copy], config=config)

    timing = measure(
        launch,
        side.stopwatch,
        side.limits(seconds),
        reference=lambda _: stream.read(buffers.b, out=partial_sums, config=read_config),
        poison=lambda: [y.fill_(POISON) for y in outputs],
    )
    bytes_moved = kernel.algorithmic_bytes(weights[0], batch)
    return Measurement(
        probe="gemv",
        op="gemv",
        format=weight_format,
        n=n,
        k=k,
        batch=batch,
        side=side.side,
        memory=side.memory,
        backend=side.backend,
        config=config_record(config),
        useful_bytes=bytes_moved,
        estimated_bus_bytes=bytes_moved,
        timing=timing,
        reference="read",
        reference_bytes=buffers.n_bytes,
        nominal_gb_per_s=side.nominal_gb_per_s,
        wrong=sum(count_wrong(weights[i], x, outputs[i]) for i in sorted(launched)),
        note=FUSED_ON_A_CPU if side.side == "host" and weight_format == "nvfp4" else None,
    )


def main(argv: list[str] | None = None) -> int:
    """Runs ``roofprobe gemv``; returns the exit status."""
    top = parser("roofprobe gemv", "Decode's matrix-vector product, held against the read ceiling of the same run.")
    add_flags(top, seconds=10)
    add_shape_flags(top)
    top.add_argument("--batch", type=positive_int, default=1, help="vectors at once, 1 to 16 (default 1)")
    top.add_argument("--format", choices=FORMATS, help="weight format (default: all)")
    arguments = top.parse_args(argv)
    if arguments.batch > MAX_BATCH:
        top.error(f"argument --batch: {arguments.batch} is above {MAX_BATCH}: a larger batch is no longer a GEMV")
    shapes = shapes_from(top, arguments)
    formats = FORMATS if arguments.format is None else (arguments.format,)
    return run_probe(
        "gemv",
        arguments,
        steps=len(shapes) * len(formats),
        arrays=2,
        probe_side=lambda side, buffers, on_step, on_result: probe_gemv(
            side, buffers, shapes, arguments.seconds, on_step, on_result, formats
        ),
    )


if __name__ == "__main__":
    raise SystemExit(main())
