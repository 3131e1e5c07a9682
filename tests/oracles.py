"""Independent answers for quantized weights: torch's FP8 and E8M0 with E2M1 by arithmetic, and ml_dtypes for all.

Neither shares code or tables with the package.
"""

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
import torch

from roofprobe.kernels.formats import FP8Weight, MXFP4Weight, NVFP4Weight, QuantizedWeight

FloatArray = NDArray[np.float32]


def codes_by_k(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """One code a byte, [N, K], from two a byte: even k sits in the low nibble."""
    n, half = codes.shape
    unpacked = np.empty((n, 2 * half), dtype=np.uint8)
    unpacked[:, 0::2] = codes % 16
    unpacked[:, 1::2] = codes // 16
    return unpacked


def e2m1_by_arithmetic(codes: NDArray[np.uint8]) -> FloatArray:
    """sign * 2^(e-1) * (1 + m/2), and m/2 for the subnormals."""
    exponent, significand = codes // 2 % 4, codes % 2
    magnitude = np.where(exponent == 0, significand * 0.5, np.exp2(exponent - 1.0) * (1 + significand * 0.5))
    return np.copysign(magnitude, np.where(codes >= 8, -1.0, 1.0)).astype(np.float32)


def e2m1_by_ml_dtypes(codes: NDArray[np.uint8]) -> FloatArray:
    return codes.view(ml_dtypes.float4_e2m1fn).astype(np.float32)


def e4m3_by_torch(scale_bytes: NDArray[np.uint8]) -> FloatArray:
    return torch.from_numpy(scale_bytes.copy()).view(torch.float8_e4m3fn).float().numpy()


def e4m3_by_ml_dtypes(scale_bytes: NDArray[np.uint8]) -> FloatArray:
    return scale_bytes.view(ml_dtypes.float8_e4m3fn).astype(np.float32)


def e8m0_by_torch(scale_bytes: NDArray[np.uint8]) -> FloatArray:
    return torch.from_numpy(scale_bytes.copy()).view(torch.float8_e8m0fnu).float().numpy()


def e8m0_by_ml_dtypes(scale_bytes: NDArray[np.uint8]) -> FloatArray:
    return scale_bytes.view(ml_dtypes.float8_e8m0fnu).astype(np.float32)


DECODERS = {
    "torch": (e2m1_by_arithmetic, e4m3_by_torch, e8m0_by_torch),
    "ml_dtypes": (e2m1_by_ml_dtypes, e4m3_by_ml_dtypes, e8m0_by_ml_dtypes),
}


def swizzled_places(n: int, columns: int) -> NDArray[np.int64]:
    """[n, columns]: where the 128x4 layout puts each scale, by the formula of its definition."""
    r, c = np.mgrid[:n, :columns]
    return ((r // 128) * -(-columns // 4) + c // 4) * 512 + (r % 32) * 16 + ((r % 128) // 32) * 4 + c % 4  # type: ignore[no-any-return]


def scale_bytes(weight: NVFP4Weight | MXFP4Weight) -> NDArray[np.uint8]:
    """uint8 [N, K / block] from either layout."""
    n, k = weight.shape
    stored = weight.block_scales.view(torch.uint8).cpu().numpy()
    if weight.scale_layout == "linear":
        return stored
    return stored.reshape(-1)[swizzled_places(n, k // (16 if isinstance(weight, NVFP4Weight) else 32))]


def blocks_and_scales(weight: NVFP4Weight | MXFP4Weight, oracle: str) -> tuple[FloatArray, FloatArray]:
    """(e2m1, the block scale of each), float32 [N, K]."""
    e2m1, e4m3, e8m0 = DECODERS[oracle]
    codes = codes_by_k(weight.codes.cpu().numpy())
    if isinstance(weight, MXFP4Weight):
        return e2m1(codes), np.repeat(e8m0(scale_bytes(weight)), 32, axis=1)
    return e2m1(codes), np.repeat(e4m3(scale_bytes(weight)), 16, axis=1)


def unscaled(weight: QuantizedWeight, oracle: str) -> FloatArray:
    """e2m1 * block scale, or FP8's value, in float32; [N, K]. Exact but where MXFP4 overflows."""
    if isinstance(weight, FP8Weight):
        return DECODERS[oracle][1](weight.values.view(torch.uint8).cpu().numpy())
    codes, scales = blocks_and_scales(weight, oracle)
    with np.errstate(all="ignore"):
        return codes * scales


def dequantized(weight: QuantizedWeight, oracle: str) -> FloatArray:
    """The exact order in numpy's float32: one multiplication by, or division by, the scale for the tensor or row."""
    values = unscaled(weight, oracle)
    if isinstance(weight, MXFP4Weight):
        return values
    with np.errstate(all="ignore"):
        if isinstance(weight, FP8Weight):
            return values * weight.scale.cpu().numpy().reshape(-1, 1)
        global_scale = np.float32(weight.global_scale.cpu().numpy())
        return values / global_scale if weight.global_scale_use == "divide" else values * global_scale


def rounded(values: FloatArray, dtype: torch.dtype) -> torch.Tensor:
    """float32 to nearest even in `dtype`, by ml_dtypes and numpy; on the CPU."""
    with np.errstate(over="ignore", invalid="ignore"):
        if dtype == torch.bfloat16:
            return torch.from_numpy(values.astype(ml_dtypes.bfloat16).view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(values.astype(np.float16 if dtype == torch.float16 else np.float32))
