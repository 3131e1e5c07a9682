"""Counts the wrong elements of a dequantization: every one has to have the reference's bits."""

from __future__ import annotations

import torch

from roofprobe.kernels.dequant_torch import dequantize_nvfp4
from roofprobe.kernels.formats import NVFP4Weight
from roofprobe.kernels.rows import row_chunks


def count_wrong(weight: NVFP4Weight, out: torch.Tensor) -> int:
    """How many elements of `out` [N, K] differ from the eager reference in any bit; a NaN may have any payload."""
    wrong = torch.zeros((), dtype=torch.int64, device=out.device)
    bits = {2: torch.int16, 4: torch.int32}[out.dtype.itemsize]
    for rows, part in row_chunks(weight):
        assert isinstance(part, NVFP4Weight)
        expected = torch.empty(part.shape, dtype=out.dtype, device=out.device)
        dequantize_nvfp4(part, expected)
        found = out[rows]
        both_nan = found.isnan() & expected.isnan()
        wrong += ((found.view(bits) != expected.view(bits)) & ~both_nan).sum()
    return int(wrong)
