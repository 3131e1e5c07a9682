"""Independent answers for quantized weights: torch's FP8 with E2M1 by arithmetic, and ml_dtypes for both.

Neither shares code or tables with the package.
"""

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
import torch

from roofprobe.kernels.formats import NVFP4Weight

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


DECODERS = {
    "torch": (e2m1_by_arithmetic, e4m3_by_torch),
    "ml_dtypes": (e2m1_by_ml_dtypes, e4m3_by_ml_dtypes),
}


def unscaled(weight: NVFP4Weight, oracle: str) -> FloatArray:
    """e2m1 * e4m3 in float32, exactly; [N, K]."""
    e2m1, e4m3 = DECODERS[oracle]
    codes = codes_by_k(weight.codes.cpu().numpy())
    scales = e4m3(weight.block_scales.view(torch.uint8).cpu().numpy())
    with np.errstate(invalid="ignore"):
        return e2m1(codes) * np.repeat(scales, 16, axis=1)


def dequantized(weight: NVFP4Weight, oracle: str) -> FloatArray:
    """The exact order in numpy's float32: one multiplication by, or division by, the global scale."""
    global_scale = np.float32(weight.global_scale.cpu().numpy())
    with np.errstate(all="ignore"):
        if weight.global_scale_use == "divide":
            return unscaled(weight, oracle) / global_scale
        return unscaled(weight, oracle) * global_scale


def rounded(values: FloatArray, dtype: torch.dtype) -> torch.Tensor:
    """float32 to nearest even in `dtype`, by ml_dtypes and numpy; on the CPU."""
    with np.errstate(over="ignore", invalid="ignore"):
        if dtype == torch.bfloat16:
            return torch.from_numpy(values.astype(ml_dtypes.bfloat16).view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(values.astype(np.float16 if dtype == torch.float16 else np.float32))
