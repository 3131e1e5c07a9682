"""The weight formats: their names and sizes, what a kernel takes, and random data in each.

BF16 weights are plain tensors; `quantized.py` has the others.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from roofprobe.kernels.quantized import (
    MXFP4_BLOCK,
    NVFP4_BLOCK,
    FP8Weight,
    GlobalScaleUse,
    MXFP4Weight,
    NVFP4Weight,
)
from roofprobe.kernels.swizzle import swizzled
from roofprobe.kernels.tensor_checks import check_shape

__all__ = [
    "E2M1_VALUES", "FORMAT_NAMES", "MXFP4_BLOCK", "NVFP4_BLOCK", "FP8Weight", "GlobalScaleUse", "MXFP4Weight",
    "NVFP4Weight", "QuantizedWeight", "Weight", "check_weight", "format_name", "random_bf16", "random_fp8",
    "random_mxfp4", "random_nvfp4", "random_weight", "stored_bytes",
]  # fmt: skip

E2M1_VALUES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0)
FORMAT_NAMES = ("bf16", "fp8", "nvfp4", "mxfp4")

QuantizedWeight = NVFP4Weight | MXFP4Weight | FP8Weight
Weight = torch.Tensor | QuantizedWeight


def format_name(weight: Weight) -> str:
    """`bf16`, `fp8`, `nvfp4` or `mxfp4`, as records name it."""
    match weight:
        case NVFP4Weight():
            return "nvfp4"
        case MXFP4Weight():
            return "mxfp4"
        case FP8Weight():
            return "fp8"
    return "bf16"


def stored_bytes(weight: Weight) -> int:
    """Bytes that one reading of the weight moves: codes or values, and scales without a swizzled layout's padding."""
    match weight:
        case NVFP4Weight(shape=(n, k)):
            return weight.codes.nbytes + n * k // NVFP4_BLOCK + weight.global_scale.nbytes
        case MXFP4Weight(shape=(n, k)):
            return weight.codes.nbytes + n * k // MXFP4_BLOCK
        case FP8Weight():
            return weight.values.nbytes + weight.scale.nbytes
    return weight.nbytes


def check_weight(weight: object) -> Weight:
    """`weight` as a type that the kernels take; raises ValueError unless quantized or bfloat16 [N, K]."""
    if isinstance(weight, NVFP4Weight | MXFP4Weight | FP8Weight):
        return weight
    expected = "a bfloat16 tensor, NVFP4Weight, MXFP4Weight or FP8Weight"
    if not isinstance(weight, torch.Tensor):
        raise ValueError(f"weight: expected {expected}, got {type(weight).__name__}")
    if weight.dtype != torch.bfloat16:
        raise ValueError(f"weight: expected {expected}, got {weight.dtype}")
    if weight.dim() != 2 or 0 in weight.shape:
        raise ValueError(f"weight: expected shape [N, K] without zeros, got {list(weight.shape)}")
    if not weight.is_contiguous():
        raise ValueError("weight: expected a contiguous tensor, got a strided one; call .contiguous()")
    return weight


def random_nvfp4(n: int, k: int, seed: int, device: torch.device | str, scale_layout: str = "linear") -> NVFP4Weight:
    """Non-periodic NVFP4 data: all codes, block scales from 0.25 to 3.75, global scale 0.0123."""
    check_shape((n, k), NVFP4_BLOCK)
    generator = torch.Generator(device).manual_seed(seed)
    codes = _random_bytes(n * k // 2, generator).view(n, k // 2)
    scales = _random_bytes(n * k // NVFP4_BLOCK, generator).view(n, k // NVFP4_BLOCK)
    scales = _laid_out(scales.bitwise_and_(0x1F).add_(0x28), scale_layout).view(torch.float8_e4m3fn)
    global_scale = torch.tensor(0.0123, dtype=torch.float32, device=device)
    return NVFP4Weight(codes, scales, global_scale, (n, k), scale_layout)


def random_mxfp4(n: int, k: int, seed: int, device: torch.device | str, scale_layout: str = "linear") -> MXFP4Weight:
    """Non-periodic MXFP4 data: all codes, block scales from 2^-7 to 1."""
    check_shape((n, k), MXFP4_BLOCK)
    generator = torch.Generator(device).manual_seed(seed)
    codes = _random_bytes(n * k // 2, generator).view(n, k // 2)
    scales = _random_bytes(n * k // MXFP4_BLOCK, generator).view(n, k // MXFP4_BLOCK)
    scales = _laid_out(scales.bitwise_and_(0x07).add_(0x78), scale_layout)
    return MXFP4Weight(codes, scales, (n, k), scale_layout)


def random_fp8(n: int, k: int, seed: int, device: torch.device | str, per_row: bool = False) -> FP8Weight:
    """Non-periodic FP8 data of either sign, magnitudes from 2^-6 to 3.75, scale 0.0123, or about it for each row."""
    if n < 1 or k < 1:
        raise ValueError(f"shape: expected N >= 1 and K >= 1, got N={n}, K={k}")
    generator = torch.Generator(device).manual_seed(seed)
    values = _random_bytes(n * k, generator).view(n, k)
    values.bitwise_and_(0xBF).add_(0x08)  # magnitudes 0x08 to 0x47: no zero, subnormal or NaN
    scale = torch.tensor(0.0123, dtype=torch.float32, device=device)
    if per_row:
        scale = scale * torch.rand(n, generator=generator, device=device).add_(0.5)
    return FP8Weight(values.view(torch.float8_e4m3fn), scale)


def random_bf16(n: int, k: int, seed: int, device: torch.device | str) -> torch.Tensor:
    """Non-periodic bfloat16 [N, K] of either sign with magnitudes in [0.5, 2), made in place."""
    generator = torch.Generator(device).manual_seed(seed)
    bits = _random_bytes(2 * n * k, generator).view(torch.int16)
    bits.bitwise_and_(0x80FF - 0x10000).bitwise_or_(0x3F00)  # sign, lowest exponent bit and significand stay
    return bits.view(torch.bfloat16).view(n, k)


def random_weight(weight_format: str, n: int, k: int, seed: int, device: torch.device | str) -> Weight:
    """Non-periodic data in one of FORMAT_NAMES; raises ValueError for another name or a K that it cannot have."""
    makers: dict[str, Callable[[int, int, int, torch.device | str], Weight]]
    makers = {"bf16": random_bf16, "fp8": random_fp8, "nvfp4": random_nvfp4, "mxfp4": random_mxfp4}
    if weight_format not in makers:
        raise ValueError(f"format: expected one of {', '.join(FORMAT_NAMES)}, got {weight_format!r}")
    return makers[weight_format](n, k, seed, device)


def _laid_out(scales: torch.Tensor, scale_layout: str) -> torch.Tensor:
    return swizzled(scales) if scale_layout == "swizzled" else scales


def _random_bytes(count: int, generator: torch.Generator) -> torch.Tensor:
    words = torch.empty(-(-count // 8), dtype=torch.int64, device=generator.device)
    words.random_(-(2**63), None, generator=generator)  # eight bytes a draw
    return words.view(torch.uint8)[:count]
