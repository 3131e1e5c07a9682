"""GEMV as plain torch expressions: the reference, on any device. It needs 4 (bf16) to 16 (FP4) bytes a weight."""

import torch

from roofprobe.kernels.dequant_torch import scaled, unscaled
from roofprobe.kernels.formats import Weight


def gemv(weight: Weight, x: torch.Tensor, out: torch.Tensor) -> None:
    """out [B, N] = x [B, K] W^T, summed in float32, the outer scale applied once to the sum, rounded to out."""
    if isinstance(weight, torch.Tensor):
        out.copy_(x.float() @ weight.float().T)
    else:
        out.copy_(scaled(x.float() @ unscaled(weight).T, weight))
