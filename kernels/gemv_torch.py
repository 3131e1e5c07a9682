"""GEMV as plain torch expressions: the reference, on any device. It needs 4 (bf16) or 16 (NVFP4) bytes a weight."""

import torch

from roofprobe.kernels.dequant_torch import unscaled
from roofprobe.kernels.formats import NVFP4Weight, Weight


def gemv(weight: Weight, x: torch.Tensor, out: torch.Tensor) -> None:
    """out [B, N] = x [B, K] W^T, summed in float32, the global scale applied once to the sum, rounded to out."""
    if not isinstance(weight, NVFP4Weight):
        out.copy_(x.float() @ weight.float().T)
        return
    sums = x.float() @ unscaled(weight).T
    divide = weight.global_scale_use == "divide"
    out.copy_(sums / weight.global_scale if divide else sums * weight.global_scale)
