"""Other people's kernels for the same work, on the same operands and against the same ceiling as ours.

    torch       bf16 GEMV by torch.mv / torch.mm (cuBLAS on a GPU), one for each expert that is taken of a layer with
                experts; dequantization as eager torch expressions
    cupy        bf16 GEMV, and read and copy, in CUDA C++ through NVRTC
    flashinfer  bf16, FP8 and NVFP4 weights times bf16 vectors
    gemlite     FP8, NVFP4 and MXFP4 weights times bf16 vectors
    torchao     dequantization of NVFP4

A baseline that is not installed, that fails or that is far off is a `Skipped` record, and never ends a run. One that
sums more coarsely than float32 allows is measured, with its error in the row's note, and counts as unchecked.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from importlib.util import find_spec
import time
from typing import TYPE_CHECKING, Literal

from roofprobe.measurement import Measurement, Skipped
from roofprobe.probes import baseline_kernels
from roofprobe.probes.baseline_kernels import Baseline
from roofprobe.probes.case import Case, Ceiling, ExpertOperands, Operands, measure_case
from roofprobe.probes.sides import CACHES_PER_ARRAY

if TYPE_CHECKING:
    from roofprobe.kernels.formats import Weight
    from roofprobe.probes.sides import MeasuredSide

    OnResult = Callable[[Measurement | Skipped], None]

FAR_OFF = 2.0**-5
"""A relative error (of norms) that no rounding of inputs to 8 bits explains."""
EAGER_WEIGHTS = 1 << 25
"""Eager dequantization takes 12 bytes a weight and a second for 10^8 of them: it is measured over fewer rows."""


def add_baselines_flag(parser: argparse.ArgumentParser, default: bool | None) -> None:
    """``--baselines`` and ``--no-baselines``."""
    parser.add_argument(
        "--baselines",
        action=argparse.BooleanOptionalAction,
        default=default,
        help="measure other people's kernels beside ours: torch's and, where installed, others'",
    )


def gemv_rows(side: MeasuredSide, operands: Operands, ceiling: Ceiling, seconds: float, on_result: OnResult) -> None:
    """Measures every baseline for this GEMV, or says why not."""
    from roofprobe.kernels.gemv import algorithmic_bytes

    assert operands.batch is not None
    bytes_moved = algorithmic_bytes(operands.weights[0], operands.batch)
    for baseline in _fitting(baseline_kernels.GEMV, side, operands):
        on_result(_row("gemv", baseline, side, operands, bytes_moved, ceiling, seconds))


def dequant_rows(side: MeasuredSide, operands: Operands, ceiling: Ceiling, seconds: float, on_result: OnResult) -> None:
    """Measures every baseline for this dequantization, or says why not; over no more rows than it takes."""
    from roofprobe.kernels.dequant import algorithmic_bytes

    out = operands.outputs[0]
    enough = max(EAGER_WEIGHTS, CACHES_PER_ARRAY * side.cache_bytes // out.dtype.itemsize) // operands.k
    rows = min(operands.n, max(1, enough))
    cut = Operands(
        operands.format, [_first_rows(w, rows) for w in operands.weights], [out[:rows] for out in operands.outputs]
    )
    bytes_moved = algorithmic_bytes(cut.weights[0], out.dtype)  # type: ignore[arg-type]
    for baseline in _fitting(baseline_kernels.DEQUANT, side, operands):
        on_result(_row("dequant", baseline, side, cut, bytes_moved, ceiling, seconds))


def grouped_gemv_rows(
    side: MeasuredSide, operands: ExpertOperands, ceiling: Ceiling, seconds: float, on_result: OnResult
) -> None:
    """Measures every baseline for this grouped GEMV, or says why not."""
    from roofprobe.kernels.grouped_gemv import algorithmic_bytes

    bytes_moved = algorithmic_bytes(operands.weights, operands.expert_ids[0])
    for baseline in _fitting(baseline_kernels.GROUPED_GEMV, side, operands):
        on_result(_row("gemv", baseline, side, operands, bytes_moved, ceiling, seconds))


def _fitting(table: Iterable[Baseline], side: MeasuredSide, operands: Operands | ExpertOperands) -> Sequence[Baseline]:
    return [b for b in table if operands.format in b.formats and side.side in b.sides]


def _row(
    probe: Literal["gemv", "dequant"],
    baseline: Baseline,
    side: MeasuredSide,
    operands: Operands | ExpertOperands,
    bytes_moved: int,
    ceiling: Ceiling,
    seconds: float,
) -> Measurement | Skipped:
    def skipped(reason: str) -> Skipped:
        batch = "" if operands.batch is None else f" batch {operands.batch}"
        case = f"{baseline.name} {operands.format} {operands.n}x{operands.k}{batch}"
        return Skipped(probe=probe, case=case, reason=reason)

    if find_spec(baseline.module) is None:
        return skipped(f"{baseline.module} is not installed")
    outputs = list(operands.outputs)  # some baselines leave their result in a tensor of their own
    operands = replace(operands, outputs=outputs)
    try:
        run = baseline.make(operands)
        once = _second_launch(run, side)
        error = _relative_error(operands)
        if not error <= FAR_OFF:
            return skipped(f"its result is {error:.2g} off, relative to the norm")
        if once > seconds:
            return skipped(f"one launch takes {once:.1f} s, more than the {seconds:g} s that a row may take")
        wrong = _count_wrong(operands, 0)
        case = Case(
            probe=probe,
            operands=operands,
            backend=baseline.name,
            bytes_moved=bytes_moved,
            run=run,
            count_wrong=None if wrong else lambda copy: _count_wrong(operands, copy),
            config={},
            note=f"{wrong} results outside float32's bound; relative error {error:.1e}" if wrong else None,
        )
        return measure_case(case, side, ceiling, seconds)
    except Exception as error:  # noqa: BLE001 - somebody else's code, on a machine that it may never have seen
        return skipped(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")


def _second_launch(run: Callable[[int], object], side: MeasuredSide) -> float:
    """Seconds of a launch after one that may have compiled something."""
    for _ in range(2):
        start = time.perf_counter()
        run(0)
        if side.side == "device":
            import torch

            torch.cuda.synchronize()
    return time.perf_counter() - start


def _count_wrong(operands: Operands | ExpertOperands, copy: int) -> int:
    from roofprobe.kernels import dequant_check, gemv_check, grouped_gemv_check

    if isinstance(operands, ExpertOperands):
        numbers, found = operands.expert_ids[copy], operands.outputs[copy]
        return grouped_gemv_check.count_wrong(operands.weights, operands.x, numbers, found)
    weight, out = operands.weights[copy], operands.outputs[copy]
    if operands.x is None:
        return dequant_check.count_wrong(weight, out)  # type: ignore[arg-type]
    return gemv_check.count_wrong(weight, operands.x, out)


def _relative_error(operands: Operands | ExpertOperands) -> float:
    """|found - expected| / |expected| over the first rows, by the eager reference."""
    import torch

    from roofprobe.kernels.dequant import dequantize
    from roofprobe.kernels.gemv import gemv
    from roofprobe.kernels.grouped_gemv import grouped_gemv

    if isinstance(operands, ExpertOperands):
        numbers, found = operands.expert_ids[0], operands.outputs[0]
        expected = grouped_gemv(operands.weights, operands.x, numbers, out_dtype=torch.float32, backend="torch")
        return float((found.float() - expected).norm() / expected.norm())
    rows = min(operands.n, 1024)
    part, found = _first_rows(operands.weights[0], rows), operands.outputs[0]
    if operands.x is None:
        found, expected = found[:rows], dequantize(part, torch.float32, backend="torch")  # type: ignore[arg-type]
    else:
        found, expected = found[:, :rows], gemv(part, operands.x, out_dtype=torch.float32, backend="torch")
    return float((found.float() - expected).norm() / expected.norm())


def _first_rows(weight: Weight, rows: int) -> Weight:
    from roofprobe.kernels.rows import row_chunks

    return next(row_chunks(weight, rows * weight.shape[1]))[1]
