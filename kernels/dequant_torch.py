"""NVFP4 dequantization as plain torch expressions: the reference, on any device. It needs 12 bytes a weight."""

import torch

from roofprobe.kernels.formats import E2M1_VALUES, NVFP4_BLOCK, NVFP4Weight


def unscaled(weight: NVFP4Weight) -> torch.Tensor:
    """e2m1 * e4m3 as float32 [N, K], which is exact; the global scale is left out."""
    values = torch.tensor(E2M1_VALUES, dtype=torch.float32, device=weight.device)
    codes = torch.stack((weight.codes & 0xF, weight.codes >> 4), dim=-1).reshape(weight.shape)
    scales = weight.block_scales.to(torch.float32).repeat_interleave(NVFP4_BLOCK, dim=1)
    return values[codes.int()] * scales


def dequantize_nvfp4(weight: NVFP4Weight, out: torch.Tensor) -> None:
    """out = RN(e2m1 * e4m3 * global scale) in float32, then rounded to out's dtype."""
    products = unscaled(weight)
    divide = weight.global_scale_use == "divide"
    out.copy_(products / weight.global_scale if divide else products * weight.global_scale)
