"""A weight, a few rows at a time: checks need several temporaries an element, and weights fill the memory."""

from __future__ import annotations

from collections.abc import Iterator

from roofprobe.kernels.formats import NVFP4Weight, Weight

CHUNK_ELEMENTS = 1 << 22
"""With float64 temporaries, 32 MiB each."""


def row_chunks(weight: Weight, elements: int = CHUNK_ELEMENTS) -> Iterator[tuple[slice, Weight]]:
    """Consecutive rows of `weight`, about `elements` weights at a time, as views: (which rows, those rows)."""
    n, k = weight.shape
    step = max(1, elements // k)
    for start in range(0, n, step):
        rows = slice(start, min(start + step, n))
        yield rows, _rows_of(weight, rows)


def _rows_of(weight: Weight, rows: slice) -> Weight:
    if not isinstance(weight, NVFP4Weight):
        return weight[rows]
    return NVFP4Weight(
        weight.codes[rows],
        weight.block_scales[rows],
        weight.global_scale,
        (rows.stop - rows.start, weight.shape[1]),
        global_scale_use=weight.global_scale_use,
    )
