"""Every kernel on the sides that this machine has, as pytest-benchmark rows that can be kept and compared.

    pytest tests/benchmarks/test_kernels.py --benchmark-save=before
    pytest tests/benchmarks/test_kernels.py --benchmark-compare

pytest-benchmark's own columns are an absolute clock over plain launches. What to believe is in each row's
``extra_info``: the protocol's paired samples, from device events on a GPU, with bytes, GB/s and the fraction of the
ceiling measured in the same run. A wrong result fails; a slow one does not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from roofprobe.kernels import stream
from roofprobe.measurement import Measurement, figures
from roofprobe.probes import dequant, gemv, grouped
from roofprobe.probes.case import copy_ceiling, measure_case, read_ceiling
from roofprobe.probes.memory import OPS, StreamBuffers, launches, measure_pattern
from roofprobe.probes.sides import MeasuredSide
from roofprobe.probes.weights import FORMATS, QUANTIZED, Shape, random_source

SECONDS = 1.0
"""Most time for a row's paired samples; as much again for pytest-benchmark's own rounds."""
SHAPE = Shape(8192, 8192)
"""A square projection: 134 MB in bf16, 36 MB in MXFP4, in rotation where the caches could hold that."""
ROUNDS = 9


def record(benchmark: Any, side: MeasuredSide, m: Measurement, launch: Callable[[int], object]) -> None:
    """Lets pytest-benchmark time plain launches, and puts the protocol's figures beside them."""
    assert m.wrong == 0
    counted = iter(range(1, 10**9))

    def once() -> None:
        launch(next(counted))
        if side.side == "device":
            import torch

            torch.cuda.synchronize()

    benchmark.pedantic(once, rounds=ROUNDS, warmup_rounds=1)
    kept = ("bytes", "gb_per_s", "interval", "ceiling_fraction", "ceiling_interval", "nominal_fraction", "contended")
    found = figures(m)
    benchmark.extra_info.update(
        {name: found[name] for name in kept},
        side=side.side,
        memory=m.memory,
        clock=m.timing.clock,
        seconds=m.timing.seconds,
        rejected=m.timing.rejected,
        reference=m.reference,
        reference_seconds=m.timing.reference_seconds,
        config=m.config,
    )


@pytest.mark.parametrize("op", [op for op in OPS if op != "triad"])
def test_stream(op: str, side: MeasuredSide, buffers: StreamBuffers, benchmark: Any) -> None:
    measured = measure_pattern(side, side.memory, buffers, op, SECONDS)
    record(benchmark, side, measured, launches(side, buffers)[0][op])
    assert measured.useful_bytes == stream.STREAM_OPS[op].useful_bytes(buffers.n)


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("weight_format", FORMATS)
def test_gemv(weight_format: str, batch: int, side: MeasuredSide, buffers: StreamBuffers, benchmark: Any) -> None:
    operands = gemv.make_operands(side, random_source(Shape(SHAPE.n, SHAPE.k, batch), weight_format))
    case = gemv.gemv_case(side, operands)
    measured = measure_case(case, side, read_ceiling(side, buffers), SECONDS)
    record(benchmark, side, measured, lambda count: case.run(count % len(operands.weights)))


@pytest.mark.parametrize("weight_format", FORMATS)
def test_grouped_gemv(weight_format: str, side: MeasuredSide, buffers: StreamBuffers, benchmark: Any) -> None:
    operands = grouped.make_operands(side, grouped.GPT_OSS, weight_format)
    case = grouped.grouped_case(side, operands)
    measured = measure_case(case, side, read_ceiling(side, buffers), SECONDS)
    record(benchmark, side, measured, lambda count: case.run(count % len(operands.outputs)))


@pytest.mark.parametrize("weight_format", QUANTIZED)
def test_dequant(weight_format: str, side: MeasuredSide, buffers: StreamBuffers, benchmark: Any) -> None:
    operands = dequant.make_operands(side, random_source(SHAPE, weight_format))
    case = dequant.dequant_case(side, operands)
    measured = measure_case(case, side, copy_ceiling(side, buffers), SECONDS)
    record(benchmark, side, measured, lambda count: case.run(count % len(operands.weights)))
