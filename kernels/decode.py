"""Device functions that turn packed weights, scales and activations into float32, exactly.

Every function takes a `MODE`. "bits" uses shifts, masks and the float16 widening that every GPU and Triton's
interpreter have. The order of the results is that of k.

The interpreter multiplies, compares and rounds bfloat16 wrongly and decodes an E4M3 NaN as 480, so nothing here
computes in bfloat16 or relies on a cast from FP8.
"""

import triton
import triton.language as tl


@triton.jit
def float16_pair(word):
    """Both halves of a uint32 word of two float16, as float32."""
    low = word.to(tl.uint16).to(tl.float16, bitcast=True).to(tl.float32)
    high = (word >> 16).to(tl.uint16).to(tl.float16, bitcast=True).to(tl.float32)
    return low, high


@triton.jit
def e2m1_x8(word, MODE: tl.constexpr):
    """Eight E2M1 codes of a uint32 word, times 2**-14, as float32.

    A code's sign, two exponent bits and one significand bit, put at bits 15 and 11 to 9 of a float16, are its value
    times 2**-14, subnormals and minus zero included. Eight codes need one pass over bytes: the upper byte of such a
    float16 is all of it.
    """
    tl.static_assert(MODE == "bits")
    shifted = word << 4
    odd = (word & 0x80808080) | ((word >> 3) & 0x0E0E0E0E)
    even = (shifted & 0x80808080) | ((shifted >> 3) & 0x0E0E0E0E)
    k0, k4 = float16_pair((even << 8) & 0xFF00FF00)
    k1, k5 = float16_pair((odd << 8) & 0xFF00FF00)
    k2, k6 = float16_pair(even & 0xFF00FF00)
    k3, k7 = float16_pair(odd & 0xFF00FF00)
    return k0, k1, k2, k3, k4, k5, k6, k7


@triton.jit
def e2m1_x16(word, MODE: tl.constexpr):
    """Sixteen E2M1 codes of a 64-bit word, times 2**-14, as float32."""
    return e2m1_x8(word.to(tl.uint32), MODE) + e2m1_x8((word >> 32).to(tl.uint32), MODE)


@triton.jit
def e4m3_for_e2m1(byte, MODE: tl.constexpr):
    """An E4M3FN byte as float32, times the 2**14 that `e2m1_x8` leaves out, so that their product is exact.

    Exponent and significand at bits 13 to 7 of a float16 are the value times 2**-8, subnormals included; 0x7F and
    0xFF, which would read as 480, become NaN.
    """
    tl.static_assert(MODE == "bits")
    bits = byte.to(tl.uint32)
    magnitude = bits & 0x7F
    half = (magnitude << 7) | ((bits & 0x80) << 8)
    value = half.to(tl.uint16).to(tl.float16, bitcast=True).to(tl.float32) * 4194304.0
    return tl.where(magnitude == 0x7F, float("nan"), value)


@triton.jit
def bfloat16_pair(word):
    """Both halves of a uint32 word of two bfloat16, as float32."""
    low = (word << 16).to(tl.float32, bitcast=True)
    high = (word & 0xFFFF0000).to(tl.float32, bitcast=True)
    return low, high


@triton.jit
def sixteen_bit_x4(word, BFLOAT16: tl.constexpr):
    """Four bfloat16 (or, without BFLOAT16, float16) of a 64-bit word, as float32."""
    low, high = word.to(tl.uint32), (word >> 32).to(tl.uint32)
    if BFLOAT16:
        values = bfloat16_pair(low) + bfloat16_pair(high)
    else:
        values = float16_pair(low) + float16_pair(high)
    return values


@triton.jit
def bfloat16_bits(value):
    """float32 rounded to bfloat16, to nearest even, as the low half of a uint32; every NaN becomes 0x7FC0."""
    bits = value.to(tl.uint32, bitcast=True)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return tl.where(value == value, rounded, 0x7FC0)


@triton.jit
def rounded_to(value, dtype: tl.constexpr):
    """float32 rounded to nearest even to `dtype`: float32, float16 or bfloat16."""
    if dtype == tl.bfloat16:
        rounded = bfloat16_bits(value).to(tl.uint16).to(tl.bfloat16, bitcast=True)
    else:
        rounded = value.to(dtype)
    return rounded


@triton.jit
def with_global_scale(value, scale, DIVIDE: tl.constexpr):
    """value * scale or value / scale, rounded once."""
    if DIVIDE:
        scaled = tl.div_rn(value, scale)
    else:
        scaled = value * scale
    return scaled
