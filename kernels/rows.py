"""A weight, a few rows at a time: checks need several temporaries an element, and weights fill the memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from roofprobe.kernels.formats import MXFP4_BLOCK, NVFP4_BLOCK, FP8Weight, MXFP4Weight, NVFP4Weight, Weight
from roofprobe.kernels.swizzle import linear

CHUNK_ELEMENTS = 1 << 22
"""With float64 temporaries, 32 MiB each."""


def row_chunks(weight: Weight, elements: int = CHUNK_ELEMENTS) -> Iterator[tuple[slice, Weight]]:
    """Consecutive rows of `weight`, about `elements` weights at a time: (which rows, those rows).

    They are views, but for swizzled block scales, which are copied into a linear layout once.
    """
    n, k = weight.shape
    step = max(1, elements // k)
    weight = with_linear_scales(weight)
    for start in range(0, n, step):
        rows = slice(start, min(start + step, n))
        yield rows, _rows_of(weight, rows)


def with_linear_scales(weight: Weight) -> Weight:
    """`weight` itself, or an equal one with its swizzled block scales copied into the linear layout."""
    if not isinstance(weight, NVFP4Weight | MXFP4Weight) or not weight.swizzled:
        return weight
    n, k = weight.shape
    columns = k // (NVFP4_BLOCK if isinstance(weight, NVFP4Weight) else MXFP4_BLOCK)
    scales = linear(weight.block_scale_bytes, n, columns).view(weight.block_scales.dtype)
    return replace(weight, block_scales=scales, scale_layout="linear")


def _rows_of(weight: Weight, rows: slice) -> Weight:
    match weight:
        case NVFP4Weight() | MXFP4Weight():
            shape = (rows.stop - rows.start, weight.shape[1])
            return replace(weight, codes=weight.codes[rows], block_scales=weight.block_scales[rows], shape=shape)
        case FP8Weight():
            return FP8Weight(weight.values[rows], weight.scale[rows] if weight.scale.dim() else weight.scale)
    return weight[rows]
