"""NVFP4 weights to bf16: w[N, K] = e2m1 * e4m3 * global scale, written out in full.

Each row is paired with the copy ceiling measured beside it: like a copy, it reads and writes memory. Bytes are codes
and scales read and values written, each once. Every element is checked, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from roofprobe.arguments import parser
from roofprobe.measurement import Measurement
from roofprobe.probes.command import add_flags, run_probe
from roofprobe.probes.configs import config_record, dequant_config, stream_config
from roofprobe.probes.weights import Placement, Shape, add_shape_flags, place, shapes_from
from roofprobe.timing import measure

if TYPE_CHECKING:
    from roofprobe.probes.memory import StreamBuffers
    from roofprobe.probes.sides import MeasuredSide

SEED = 0x1D8B
POISON = float("nan")


def probe_dequant(
    side: MeasuredSide,
    buffers: StreamBuffers,
    shapes: Sequence[Shape],
    seconds: float,
    on_step: Callable[[str], None],
    on_result: Callable[[Measurement], None],
) -> None:
    """Measures every shape (batches aside) on one side, each within `seconds`."""
    for n, k in dict.fromkeys((shape.n, shape.k) for shape in shapes):
        on_step(f"{side.side} dequant nvfp4 {n}x{k}")
        on_result(_measure(side, buffers, place(Shape(n, k), "nvfp4", side, bytes_per_output=2), seconds))


def _measure(side: MeasuredSide, buffers: StreamBuffers, placement: Placement, seconds: float) -> Measurement:
    import torch

    from roofprobe.kernels import dequant as kernel
    from roofprobe.kernels import formats, stream
    from roofprobe.kernels.dequant_check import count_wrong

    n, k, copies = placement.n, placement.k, placement.copies
    weights = [formats.random_nvfp4(n, k, seed=SEED + i, device=side.device) for i in range(copies)]
    outputs = [torch.empty(n, k, dtype=torch.bfloat16, device=side.device) for _ in range(copies)]
    config, copy_config = dequant_config(side), stream_config(side)
    launched: set[int] = set()

    def launch(count: int) -> None:
        copy = count % copies
        launched.add(copy)
        kernel.dequantize(weights[copy], out=outputs[copy], config=config)

    timing = measure(
        launch,
        side.stopwatch,
        side.limits(seconds),
        reference=lambda _: stream.copy(buffers.b, out=buffers.a, config=copy_config),
        poison=lambda: [w.fill_(POISON) for w in outputs],
    )
    bytes_moved = kernel.algorithmic_bytes(weights[0], torch.bfloat16)
    return Measurement(
        probe="dequant",
        op="dequant",
        format="nvfp4",
        n=n,
        k=k,
        side=side.side,
        memory=side.memory,
        backend=side.backend,
        config=config_record(config),
        useful_bytes=bytes_moved,
        estimated_bus_bytes=bytes_moved,
        timing=timing,
        reference="copy",
        reference_bytes=2 * buffers.n_bytes,
        nominal_gb_per_s=side.nominal_gb_per_s,
        wrong=sum(count_wrong(weights[i], outputs[i]) for i in sorted(launched)),
    )


def main(argv: list[str] | None = None) -> int:
    """Runs ``roofprobe dequant``; returns the exit status."""
    top = parser("roofprobe dequant", "NVFP4 weights to bf16, held against the copy ceiling of the same run.")
    add_flags(top, seconds=10)
    add_shape_flags(top)
    arguments = top.parse_args(argv)
    shapes = shapes_from(top, arguments)
    return run_probe(
        "dequant",
        arguments,
        steps=len({(shape.n, shape.k) for shape in shapes}),
        arrays=2,
        probe_side=lambda side, buffers, on_step, on_result: probe_dequant(
            side, buffers, shapes, arguments.seconds, on_step, on_result
        ),
    )


if __name__ == "__main__":
    raise SystemExit(main())
