"""Counts the wrong elements of a dequantization: every one has to have the reference's bits."""

from __future__ import annotations

import torch

from roofprobe.kernels.dequant_torch import dequantize
from roofprobe.kernels.formats import QuantizedWeight
from roofprobe.kernels.rows import row_chunks


def count_wrong(weight: QuantizedWeight, out: torch.Tensor) -> int:
    """How many elements of `out` [N, K] differ from the eager reference in any bit; a NaN may have any payload."""
    wrong = torch.zeros((), dtype=torch.int64, device=out.device)
    bits = {2: torch.int16, 4: torch.int32}[out.dtype.itemsize]
    for rows, part in row_chunks(weight):
        assert not isinstance(part, torch.Tensor)
        expected = torch.empty(part.shape, dtype=out.dtype, device=out.device)
        dequantize(part, expected)
        found = out[rows]
        both_nan = found.isnan() & expected.isnan()
        wrong += ((found.view(bits) != expected.view(bits)) & ~both_nan).sum()
    return int(wrong)
