"""Device functions that turn packed weights, scales and activations into float32 or 16-bit pairs, exactly.

Every function takes a `MODE`; all of them give the same values, in the order of k:

"bits"   shifts, masks and the float16 widening that every GPU and Triton's interpreter have
"e4m3"   cc 8.9 and up: E2M1 codes are moved into E4M3 bytes, which one instruction turns into two float16
"cvt"    cc 10 and up (in their `a` or `f` targets): one instruction turns two E2M1 codes into two float16
"fhfma"  the same with Triton 3.9 and up: one instruction turns two codes or bytes into two bfloat16, and a mixed FMA
         takes 16-bit factors and a float32 sum

A fifth, "mma", is a GEMV's alone: `gemv_mma.py` hands the pairs to tensor cores instead of widening them.

Every element format fits into float16, and into bfloat16, so a conversion never rounds. The mixed FMA forms the exact
product and rounds the sum once, as widening both factors and a float32 FMA would.

The interpreter multiplies, compares and rounds bfloat16 wrongly, decodes an E4M3 NaN as 480 and knows no PTX, so "bits"
computes in float32 alone and relies on no cast from FP8.
"""

import triton
import triton.language as tl

MODES = ("bits", "e4m3", "cvt", "fhfma")
Capability = tuple[int, int]


def decode_mode(capability: Capability, triton_version: str) -> str:
    """The mode with the fewest instructions among those that compile for a GPU of this compute capability.

    Triton 3.9 is the first whose ptxas (PTX 9.2 and up) converts E2M1 to bfloat16.
    """
    version = tuple(int(part) for part in triton_version.split(".")[:2])
    if capability >= (10, 0):
        return "fhfma" if version >= (3, 9) else "cvt"
    return "e4m3" if capability >= (8, 9) else "bits"


@triton.jit
def float16_pair(word):
    """Both halves of a uint32 word of two float16, as float32."""
    low = word.to(tl.uint16).to(tl.float16, bitcast=True).to(tl.float32)
    high = (word >> 16).to(tl.uint16).to(tl.float16, bitcast=True).to(tl.float32)
    return low, high


@triton.jit
def widened_pair(word):
    """`float16_pair` by PTX: shifts and truncations cost an instruction a half that selecting the half does not."""
    return tl.inline_asm_elementwise(
        "{ .reg .b16 a, b; mov.b32 {a, b}, $2; cvt.f32.f16 $0, a; cvt.f32.f16 $1, b; }",
        "=f,=f,r", [word], dtype=(tl.float32, tl.float32), is_pure=True, pack=1,
    )  # fmt: skip


@triton.jit
def bfloat16_pair(word):
    """Both halves of a uint32 word of two bfloat16, as float32."""
    low = (word << 16).to(tl.float32, bitcast=True)
    high = (word & 0xFFFF0000).to(tl.float32, bitcast=True)
    return low, high


@triton.jit
def sixteen_bit_pair(word, BFLOAT16: tl.constexpr):
    """Two bfloat16 (or, without BFLOAT16, float16) of a uint32 word, as float32."""
    if BFLOAT16:
        values = bfloat16_pair(word)
    else:
        values = float16_pair(word)
    return values


@triton.jit
def e4m3_pairs(word, BFLOAT16: tl.constexpr):
    """Four E4M3FN bytes of a uint32 word as two words of two bfloat16 or float16; NaN stays NaN. Not in "bits"."""
    if BFLOAT16:
        pairs = tl.inline_asm_elementwise(
            "{ .reg .b16 a, b; mov.b32 {a, b}, $2; cvt.rn.bf16x2.e4m3x2 $0, a; cvt.rn.bf16x2.e4m3x2 $1, b; }",
            "=&r,=r,r", [word], dtype=(tl.uint32, tl.uint32), is_pure=True, pack=1,
        )  # fmt: skip
    else:
        pairs = tl.inline_asm_elementwise(
            "{ .reg .b16 a, b; mov.b32 {a, b}, $2; cvt.rn.f16x2.e4m3x2 $0, a; cvt.rn.f16x2.e4m3x2 $1, b; }",
            "=&r,=r,r", [word], dtype=(tl.uint32, tl.uint32), is_pure=True, pack=1,
        )  # fmt: skip
    return pairs


@triton.jit
def e2m1_pairs(word, BFLOAT16: tl.constexpr):
    """Eight E2M1 codes of a uint32 word as four words of two bfloat16 or float16. For "cvt" and "fhfma"."""
    if BFLOAT16:
        pairs = tl.inline_asm_elementwise(
            """{ .reg .b8 a, b, c, d; mov.b32 {a, b, c, d}, $4;
            cvt.rn.bf16x2.e2m1x2 $0, a; cvt.rn.bf16x2.e2m1x2 $1, b;
            cvt.rn.bf16x2.e2m1x2 $2, c; cvt.rn.bf16x2.e2m1x2 $3, d; }""",
            "=&r,=&r,=&r,=r,r", [word], dtype=(tl.uint32, tl.uint32, tl.uint32, tl.uint32), is_pure=True, pack=1,
        )  # fmt: skip
    else:
        pairs = tl.inline_asm_elementwise(
            """{ .reg .b8 a, b, c, d; mov.b32 {a, b, c, d}, $4;
            cvt.rn.f16x2.e2m1x2 $0, a; cvt.rn.f16x2.e2m1x2 $1, b;
            cvt.rn.f16x2.e2m1x2 $2, c; cvt.rn.f16x2.e2m1x2 $3, d; }""",
            "=&r,=&r,=&r,=r,r", [word], dtype=(tl.uint32, tl.uint32, tl.uint32, tl.uint32), is_pure=True, pack=1,
        )  # fmt: skip
    return pairs


@triton.jit
def fma_pair(weights, values, total, BFLOAT16: tl.constexpr):
    """total + both products of two words of two 16-bit numbers, the low ones first; each sum is rounded once."""
    if BFLOAT16:
        result = tl.inline_asm_elementwise(
            """{ .reg .b16 a, b, c, d; mov.b32 {a, b}, $1; mov.b32 {c, d}, $2;
            fma.rn.f32.bf16 $0, a, c, $3; fma.rn.f32.bf16 $0, b, d, $0; }""",
            "=f,r,r,f", [weights, values, total], dtype=tl.float32, is_pure=True, pack=1,
        )  # fmt: skip
    else:
        result = tl.inline_asm_elementwise(
            """{ .reg .b16 a, b, c, d; mov.b32 {a, b}, $1; mov.b32 {c, d}, $2;
            fma.rn.f32.f16 $0, a, c, $3; fma.rn.f32.f16 $0, b, d, $0; }""",
            "=f,r,r,f", [weights, values, total], dtype=tl.float32, is_pure=True, pack=1,
        )  # fmt: skip
    return result


@triton.jit
def e2m1_factor(MODE: tl.constexpr):
    """What the values of `e2m1_x8` are to be multiplied by: a power of two."""
    return 16384.0 if MODE == "bits" else 64.0 if MODE == "e4m3" else 1.0


@triton.jit
def e2m1_x8_by_e4m3(word):
    """Eight E2M1 codes times 2**-6, as float32, by way of E4M3 bytes.

    lop3 0xE4 takes its first operand where the mask has ones, else its second: the moved codes where the mask lies,
    elsewhere the signs, which are zero but for the sign bit. Written with operators, LLVM makes an instruction more.
    """
    return tl.inline_asm_elementwise(
        """{ .reg .b32 signs, odd, even; .reg .b16 a, b, c, d; .reg .b32 p, q, r, s; .reg .b16 lo, hi;
        and.b32 signs, $8, 0x88888888;
        shr.b32 odd, $8, 2; lop3.b32 odd, odd, signs, 0x1C1C1C1C, 0xE4;
        shl.b32 signs, signs, 4;
        shl.b32 even, $8, 2; lop3.b32 even, even, signs, 0x1C1C1C1C, 0xE4;
        mov.b32 {a, b}, even; mov.b32 {c, d}, odd;
        cvt.rn.f16x2.e4m3x2 p, a; cvt.rn.f16x2.e4m3x2 q, b; cvt.rn.f16x2.e4m3x2 r, c; cvt.rn.f16x2.e4m3x2 s, d;
        mov.b32 {lo, hi}, p; cvt.f32.f16 $0, lo; cvt.f32.f16 $2, hi;
        mov.b32 {lo, hi}, q; cvt.f32.f16 $4, lo; cvt.f32.f16 $6, hi;
        mov.b32 {lo, hi}, r; cvt.f32.f16 $1, lo; cvt.f32.f16 $3, hi;
        mov.b32 {lo, hi}, s; cvt.f32.f16 $5, lo; cvt.f32.f16 $7, hi; }""",
        "=f,=f,=f,=f,=f,=f,=f,=f,r", [word], is_pure=True, pack=1,
        dtype=(tl.float32, tl.float32, tl.float32, tl.float32, tl.float32, tl.float32, tl.float32, tl.float32),
    )  # fmt: skip


@triton.jit
def e2m1_x8(word, MODE: tl.constexpr):
    """Eight E2M1 codes of a uint32 word, divided by `e2m1_factor`, as float32.

    A code's sign, two exponent bits and one significand bit, put at bits 15 and 11 to 9 of a float16, are its value
    times 2**-14, subnormals and minus zero included; at bits 7 and 4 to 2 of an E4M3 byte, its value times 2**-6.
    Eight codes need one pass over bytes: the upper byte of such a float16 is all of it.
    """
    if MODE == "cvt" or MODE == "fhfma":
        w0, w1, w2, w3 = e2m1_pairs(word, False)
        values = widened_pair(w0) + widened_pair(w1) + widened_pair(w2) + widened_pair(w3)
    elif MODE == "e4m3":
        values = e2m1_x8_by_e4m3(word)
    else:
        tl.static_assert(MODE == "bits")
        shifted = word << 4
        odd = (word & 0x80808080) | ((word >> 3) & 0x0E0E0E0E)
        even = (shifted & 0x80808080) | ((shifted >> 3) & 0x0E0E0E0E)
        k0, k4 = float16_pair((even << 8) & 0xFF00FF00)
        k1, k5 = float16_pair((odd << 8) & 0xFF00FF00)
        k2, k6 = float16_pair(even & 0xFF00FF00)
        k3, k7 = float16_pair(odd & 0xFF00FF00)
        values = k0, k1, k2, k3, k4, k5, k6, k7
    return values


@triton.jit
def e4m3_by_bits(byte):
    """An E4M3FN byte (as uint32, upper bits zero) as float32.

    Exponent and significand at bits 13 to 7 of a float16 are the value times 2**-8, subnormals included; 0x7F and
    0xFF, which would read as 480, become NaN.
    """
    magnitude = byte & 0x7F
    half = (magnitude << 7) | ((byte & 0x80) << 8)
    value = half.to(tl.uint16).to(tl.float16, bitcast=True).to(tl.float32) * 256.0
    return tl.where(magnitude == 0x7F, float("nan"), value)


@triton.jit
def e4m3_x2(pair, MODE: tl.constexpr):
    """The two low E4M3FN bytes of a uint32 word, as float32."""
    if MODE == "bits":
        values = e4m3_by_bits(pair & 0xFF), e4m3_by_bits((pair >> 8) & 0xFF)
    else:
        values = widened_pair(e4m3_pairs(pair, False)[0])
    return values


@triton.jit
def e4m3_x4(word, MODE: tl.constexpr):
    """The four E4M3FN bytes of a uint32 word, as float32."""
    if MODE == "bits":
        values = e4m3_x2(word, MODE) + e4m3_x2(word >> 16, MODE)
    else:
        low, high = e4m3_pairs(word, False)
        values = widened_pair(low) + widened_pair(high)
    return values


@triton.jit
def e8m0(byte):
    """An E8M0 byte (as uint32, upper bits zero) as float32: 2**(byte - 127), subnormal for 0; 0xFF is NaN."""
    bits = tl.maximum(byte << 23, 0x00400000)
    return tl.where(byte == 0xFF, 0x7FC00000, bits).to(tl.uint32).to(tl.float32, bitcast=True)


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
def rounded_pair(low, high, dtype: tl.constexpr, MODE: tl.constexpr):
    """Two float32 rounded to nearest even to bfloat16 or float16, and packed into a uint32."""
    if MODE != "bits" and dtype == tl.bfloat16:
        pair = tl.inline_asm_elementwise(
            "cvt.rn.bf16x2.f32 $0, $2, $1;", "=r,f,f", [low, high], dtype=tl.uint32, is_pure=True, pack=1
        )
    elif MODE != "bits":
        pair = tl.inline_asm_elementwise(
            "cvt.rn.f16x2.f32 $0, $2, $1;", "=r,f,f", [low, high], dtype=tl.uint32, is_pure=True, pack=1
        )
    elif dtype == tl.bfloat16:
        pair = bfloat16_bits(low) | (bfloat16_bits(high) << 16)
    else:
        low_bits = low.to(dtype).to(tl.uint16, bitcast=True).to(tl.uint32)
        pair = low_bits | (high.to(dtype).to(tl.uint16, bitcast=True).to(tl.uint32) << 16)
    return pair


@triton.jit
def with_scale(value, scale, DIVIDE: tl.constexpr):
    """value * scale or value / scale, rounded once."""
    if DIVIDE:
        scaled = tl.div_rn(value, scale)
    else:
        scaled = value * scale
    return scaled
