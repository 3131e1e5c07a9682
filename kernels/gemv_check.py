"""Counts the elements of a GEMV that no float32 summation could have given.

With u = 2^-24 and d rounded operations in a sum's longest chain, any float32 dot product lies within
gamma_d * sum |w x|, gamma_d = d u / (1 - d u), of the exact one (N. J. Higham, Accuracy and Stability of Numerical
Algorithms, section 3.1). A kernel with at least 32 accumulators a row has d <= ceil(K/32) + 16, the reduction and the
scaling included. The exact sum is taken in float64, whose own error is 2^29 times smaller. The bound is never relative
to |y|: where products cancel it would be too strict, and where y is exactly 0 it accepts exactly 0 alone.
"""

from __future__ import annotations

import torch

from roofprobe.kernels.dequant_torch import scaled, unscaled
from roofprobe.kernels.formats import Weight
from roofprobe.kernels.rows import row_chunks

UNIT_ROUNDOFF = 2.0**-24
ACCUMULATORS = 32


def count_wrong(weight: Weight, x: torch.Tensor, y: torch.Tensor) -> int:
    """How many elements of y, [N] or [B, N], lie outside the bound for y = W x, rounded to y's type; NaN counts.

    weight: bfloat16 [N, K] or quantized; x [K] or [B, K]. Finite weights and vectors.
    """
    k = weight.shape[1]
    vectors = x.reshape(-1, k).double()
    results = y.reshape(vectors.shape[0], -1)
    wrong = torch.zeros((), dtype=torch.int64, device=y.device)
    for rows, part in row_chunks(weight):
        low, high = bounds(part, vectors, y.dtype)
        found = results[:, rows]
        wrong += (~((low <= found) & (found <= high))).sum()
    return int(wrong)


def bounds(weight: Weight, x: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Lowest and highest value of `dtype` that W x may have; x float64 [B, K], results [B, N]."""
    k = weight.shape[1]
    w = (weight if isinstance(weight, torch.Tensor) else unscaled(weight)).double()
    chain = -(-k // ACCUMULATORS) + 16
    gamma = chain * UNIT_ROUNDOFF / (1 - chain * UNIT_ROUNDOFF)
    exact, tolerance = x @ w.T, gamma * (x.abs() @ w.abs().T)
    if not isinstance(weight, torch.Tensor):
        exact, tolerance = scaled(exact, weight), scaled(tolerance, weight).abs()
    # By way of float32, as the kernels round: rounding keeps order, so a sum within the bound stays within it.
    return (exact - tolerance).float().to(dtype), (exact + tolerance).float().to(dtype)
