"""IEEE arithmetic on numpy arrays with one rounding, for `ptx_machine.py`.

A sum is taken in float64 and rounded to odd; 53 bits to odd, then 24, 11 or 8 bits to nearest, equals one rounding of
the exact sum (S. Boldo and G. Melquiond, "Emulation of a FMA and correctly rounded sums", 2008). Products of float32,
float16 and bfloat16 are exact in float64. Subnormal numbers are kept.
"""

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.uint64]
"""Register contents, zero-extended."""
Floats = NDArray[np.float64]

WIDTHS = {"f64": 64, "f32": 32, "f16": 16, "bf16": 16, "e4m3": 8, "e2m1": 4}
_TYPES = {
    "f32": (np.uint32, np.float32),
    "f16": (np.uint16, np.float16),
    "bf16": (np.uint16, ml_dtypes.bfloat16),
    "e4m3": (np.uint8, ml_dtypes.float8_e4m3fn),
    "e2m1": (np.uint8, ml_dtypes.float4_e2m1fn),
}


def decode(bits: Bits, kind: str) -> Floats:
    """Bits of a floating-point type as float64, exactly."""
    unsigned, real = _TYPES[kind]
    mask = np.uint64((1 << WIDTHS[kind]) - 1)
    return (bits & mask).astype(unsigned).view(real).astype(np.float64)  # type: ignore[no-any-return]


def encode(values: Floats, kind: str) -> Bits:
    """float64 rounded once, to nearest even; every NaN becomes the canonical one of PTX."""
    with np.errstate(all="ignore"):
        if kind == "f32":
            bits, canonical = values.astype(np.float32).view(np.uint32), 0x7FFFFFFF
        elif kind == "f16":
            bits, canonical = values.astype(np.float16).view(np.uint16), 0x7FFF
        else:
            bits, canonical = _to_odd_float32(values).astype(ml_dtypes.bfloat16).view(np.uint16), 0x7FFF
    return np.where(np.isnan(values), np.uint64(canonical), bits.astype(np.uint64))


def fused(a: Floats, b: Floats, c: Floats) -> Floats:
    """a * b + c, the product exact, the sum rounded to odd: ready for `encode`."""
    with np.errstate(all="ignore"):
        product = a * b
        total = product + c
        back = total - product
        error = (product - (total - back)) + (c - back)
        inexact = np.isfinite(total) & (error != 0)
        return _odd(total, inexact, (error > 0) == (total > 0))


def truncated_sum(addends: Floats) -> Floats:
    """Sums over the last axis as a tensor core may: 24 bits below the largest addend's first, the rest cut off.

    The least accurate published model (Volta's; later ones keep a bit or two more): M. Fasi, N. J. Higham, M. Mikaitis
    and S. Pranesh, "Numerical behavior of NVIDIA tensor cores", 2021.
    """
    with np.errstate(all="ignore"):
        _, exponents = np.frexp(addends)
        exponents = np.where(addends == 0, -200, exponents)
        quantum = np.ldexp(1.0, exponents.max(axis=-1, keepdims=True) - 24)
        total = (np.trunc(addends / quantum) * quantum).sum(axis=-1)
        single = total.astype(np.float32)
        over = np.abs(single.astype(np.float64)) > np.abs(total)
        cut = np.where(over, np.nextafter(single, np.float32(0)), single).astype(np.float64)
        return np.where(np.isfinite(addends).all(axis=-1), cut, addends.sum(axis=-1))


def _to_odd_float32(values: Floats) -> NDArray[np.float32]:
    single = values.astype(np.float32)
    wide = single.astype(np.float64)
    toward_zero = np.where(np.abs(wide) > np.abs(values), np.nextafter(single, np.float32(0)), single)
    odd = (toward_zero.view(np.uint32) | np.uint32(1)).view(np.float32)
    return np.where((wide == values) | ~np.isfinite(values), single, odd)


def _odd(total: Floats, inexact: NDArray[np.bool_], outward: NDArray[np.bool_]) -> Floats:
    """`total`, rounded to nearest, as if rounded to odd; outward: where the exact sum is farther from zero."""
    bits = total.view(np.int64)
    even = (bits & 1) == 0
    return np.where(inexact & even, bits + np.where(outward, 1, -1), bits).view(np.float64)
