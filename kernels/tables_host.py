"""The small formats' values as numpy tables, and the tables by which the FP4 kernels decode.

A block of FP4 weights depends only on its scale byte and its codes, and a tensor has at most one more scale: 256 rows
of 16 results say it all. They are computed once per global scale and kept as byte planes (the results' low bytes, then
the next, ...), so that 16 weights cost one 16-byte row a plane (8 KiB of rows for bfloat16: they stay in the L1 cache)
and one in-register byte look-up (pshufb, tbl) a plane. A look-up in memory for each weight takes five times as long.
"""

import functools
from typing import Any

import numpy as np
import torch

_NUMPY = {torch.float16: np.float16, torch.float32: np.float32}


def e2m1_values() -> Any:
    """float32 [16]: the value of each E2M1 code; code 8 is -0."""
    magnitudes = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], dtype=np.float32)
    return np.concatenate([magnitudes, -magnitudes])


def e4m3_values() -> Any:
    """float32 [256]: the value of each E4M3FN byte; 0x7F and 0xFF are NaN."""
    byte = np.arange(256)
    exponent, fraction = (byte >> 3) & 15, (byte & 7).astype(np.float32)
    magnitude = np.where(exponent > 0, np.ldexp(8 + fraction, exponent - 10), np.ldexp(fraction, -9))
    magnitude = np.where(byte & 127 == 127, np.nan, magnitude)
    return np.where(byte & 128, -magnitude, magnitude).astype(np.float32)


def e8m0_values() -> Any:
    """float32 [256]: the value of each E8M0 byte, 2^(byte - 127); 0x00 is the subnormal 2^-127, 0xFF is NaN."""
    return np.append(np.ldexp(np.float32(1), np.arange(255) - 127), np.float32(np.nan))


def bf16_bits(values: Any) -> Any:
    """float32 -> the bits of the nearest bfloat16, ties to even; NaN stays NaN."""
    word = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    rounded = (word + 0x7FFF + ((word >> 16) & 1)) >> 16
    return np.where(np.isnan(values), 0x7FC0, rounded).astype(np.uint16)


def _planes(exact: Any, dtype: torch.dtype) -> Any:
    """float32 [256, 16] -> uint8 [256 * bytes * 16], 64-byte aligned: byte p of result [b, c] at [b, p, c]."""
    results = bf16_bits(exact) if dtype == torch.bfloat16 else exact.astype(_NUMPY[dtype])
    width = results.dtype.itemsize
    planes = results.view(np.uint8).reshape(256, 16, width).transpose(0, 2, 1).reshape(-1)
    room = np.empty(planes.size + 64, dtype=np.uint8)
    aligned = room[-room.ctypes.data % 64 :][: planes.size]
    aligned[:] = planes
    return aligned


@functools.lru_cache(maxsize=64)
def nvfp4_planes(global_scale: float, divide: bool, dtype: torch.dtype) -> Any:
    """RN_dtype(RN(q * s * g)), or RN_dtype(RN(q * s / g)), of each scale byte and code, as byte planes."""
    with np.errstate(all="ignore"):  # a huge or zero global scale gives infinities and NaN, as it should
        product = e4m3_values()[:, None] * e2m1_values()
        g = np.float32(global_scale)
        return _planes(product / g if divide else product * g, dtype)


@functools.lru_cache(maxsize=3)
def mxfp4_planes(dtype: torch.dtype) -> Any:
    """RN_dtype(RN(q * s)) of each scale byte and code, as byte planes; infinite from 2^128 on."""
    with np.errstate(all="ignore"):
        return _planes(e8m0_values()[:, None] * e2m1_values(), dtype)
