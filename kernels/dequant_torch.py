"""Dequantization as plain torch expressions: the reference, on any device. It needs up to 16 bytes a weight."""

import torch

from roofprobe.kernels.formats import E2M1_VALUES, MXFP4_BLOCK, NVFP4_BLOCK, FP8Weight, MXFP4Weight, QuantizedWeight
from roofprobe.kernels.swizzle import linear


def e2m1(codes: torch.Tensor) -> torch.Tensor:
    """float32 [N, K] from packed codes [N, K/2]."""
    values = torch.tensor(E2M1_VALUES, dtype=torch.float32, device=codes.device)
    return values[torch.stack((codes & 0xF, codes >> 4), dim=-1).flatten(1).int()]


def block_scales(weight: QuantizedWeight) -> torch.Tensor:
    """float32 [N, K / block] of an NVFP4 or MXFP4 weight, whatever its scales' layout; exact."""
    assert not isinstance(weight, FP8Weight)
    n, k = weight.shape
    block, dtype = (
        (MXFP4_BLOCK, torch.float8_e8m0fnu) if isinstance(weight, MXFP4Weight) else (NVFP4_BLOCK, torch.float8_e4m3fn)
    )
    scales = weight.block_scale_bytes
    return (linear(scales, n, k // block) if weight.swizzled else scales).view(dtype).to(torch.float32)


def unscaled(weight: QuantizedWeight) -> torch.Tensor:
    """float32 [N, K] without the scale that `scaled` applies.

    FP8's values and NVFP4's e2m1 * e4m3 are exact; so is MXFP4's e2m1 * e8m0 except that 2^128 and more is infinite.
    """
    if isinstance(weight, FP8Weight):
        return weight.values.to(torch.float32)
    scales = block_scales(weight)
    return e2m1(weight.codes) * scales.repeat_interleave(weight.shape[1] // scales.shape[1], dim=1)


def scaled(values: torch.Tensor, weight: QuantizedWeight) -> torch.Tensor:
    """float32 or float64 [..., N] times, or divided by, the weight's scale for all or for row n; rounded once."""
    match weight:
        case MXFP4Weight():
            return values
        case FP8Weight():
            return values * weight.scale.to(values.dtype)
    scale = weight.global_scale.to(values.dtype)
    return values / scale if weight.global_scale_use == "divide" else values * scale


def dequantize(weight: QuantizedWeight, out: torch.Tensor) -> None:
    """The exact order of `dequant.py` in float32, then rounded to out's dtype."""
    out.copy_(scaled(unscaled(weight).T, weight).T)
