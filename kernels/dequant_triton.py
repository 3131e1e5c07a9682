"""Triton kernel that turns NVFP4 into float32, bfloat16 or float16.

Order of rounding, the *exact* order: e2m1 * e4m3 in float32, which is exact; one rounding for the product with (or
the quotient by) the global scale; for a 16-bit output one more, to nearest even. A NaN scale gives NaN; zeros keep
their sign.
I/O per weight: 0.5 + 1/16 bytes read, 2 (or 4) written.
"""

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl

from roofprobe.kernels.decode import (
    bfloat16_bits,
    e2m1_x8,
    e4m3_for_e2m1,
    with_global_scale,
)
from roofprobe.kernels.formats import NVFP4Weight
from roofprobe.kernels.launch import power_of_two, require_aligned, require_launchable

TRITON_DTYPES = {torch.float32: tl.float32, torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}


@dataclass(frozen=True)
class DequantConfig:
    """warps a program and 32-bit code words (8 weights, one 128-bit store of 16-bit output) a thread.

    Raises ValueError for a value out of range.
    """

    warps: int = 4
    words: int = 4
    decode: str = "bits"

    def __post_init__(self) -> None:
        power_of_two("warps", self.warps, 16)
        power_of_two("words", self.words, 16)
        if self.decode != "bits":
            raise ValueError(f"decode: expected 'bits', got {self.decode!r}")

    @property
    def block(self) -> int:
        """Code words that a program converts."""
        return self.warps * 32 * self.words


@triton.jit
def _output_pair(low, high, dtype: tl.constexpr):
    """Two float32 rounded to a 16-bit type and packed into a uint32."""
    if dtype == tl.bfloat16:
        pair = bfloat16_bits(low) | (bfloat16_bits(high) << 16)
    else:
        low_bits = low.to(dtype).to(tl.uint16, bitcast=True).to(tl.uint32)
        pair = low_bits | (high.to(dtype).to(tl.uint16, bitcast=True).to(tl.uint32) << 16)
    return pair


@triton.jit
def _interleave4(a, b, c, d):
    """[T] each to [T, 2, 2] in the order a, b, c, d."""
    return tl.join(tl.join(a, c), tl.join(b, d))


@triton.jit
def _convert(loaded, global_scale, dtype: tl.constexpr, DIVIDE: tl.constexpr, MODE: tl.constexpr):
    """Code words [T] and their scale bytes [T] to output words [T * 4], or [T * 8] for float32."""
    word, scale = loaded
    q = e2m1_x8(word.to(tl.uint32), MODE)
    s = e4m3_for_e2m1(scale, MODE)
    v = ()
    for j in tl.static_range(8):
        v += (with_global_scale(q[j] * s, global_scale, DIVIDE),)
    if dtype == tl.float32:
        halves = tl.join(_interleave4(v[0], v[2], v[4], v[6]), _interleave4(v[1], v[3], v[5], v[7]))
        output = tl.reshape(halves, [word.shape[0] * 8])
    else:
        p0, p1 = _output_pair(v[0], v[1], dtype), _output_pair(v[2], v[3], dtype)
        p2, p3 = _output_pair(v[4], v[5], dtype), _output_pair(v[6], v[7], dtype)
        output = tl.reshape(_interleave4(p0, p1, p2, p3), [word.shape[0] * 4]).to(tl.int32, bitcast=True)
    return output


@triton.jit
def _load(codes, scales, word, words, WHOLE: tl.constexpr):
    if WHOLE:
        loaded = tl.load(codes + word), tl.load(scales + word // 2)
    else:
        mask = word < words
        loaded = tl.load(codes + word, mask=mask, other=0), tl.load(scales + word // 2, mask=mask, other=0)
    return loaded


@triton.jit
def _dequantize(
    codes, scales, global_scale, out, words, WHOLE: tl.constexpr,
    dtype: tl.constexpr, DIVIDE: tl.constexpr, MODE: tl.constexpr, WORDS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """WORDS tiles of one word a lane: all their loads come before the first store."""
    WIDE: tl.constexpr = 8 if dtype == tl.float32 else 4
    first = tl.program_id(0).to(tl.int64) * (WORDS * LANES)
    loaded = ()
    for t in tl.static_range(WORDS):
        word = first + t * LANES + tl.arange(0, LANES)
        loaded += (_load(codes, scales, word, words, WHOLE),)
    g = tl.load(global_scale)
    for t in tl.static_range(WORDS):
        i = (first + t * LANES) * WIDE + tl.arange(0, LANES * WIDE)
        converted = _convert(loaded[t], g, dtype, DIVIDE, MODE)
        if WHOLE:
            tl.store(out + i, converted)
        else:
            tl.store(out + i, converted, mask=i < words.to(tl.int64) * WIDE)


@triton.jit(do_not_specialize=["words"])
def dequantize_nvfp4_kernel(
    codes, scales, global_scale, out, words,
    dtype: tl.constexpr, DIVIDE: tl.constexpr, MODE: tl.constexpr, WORDS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """codes int32 [words], scales uint8 [words / 2], out int32 [words, 4] (float32: [words, 8])."""
    if (tl.program_id(0) + 1).to(tl.int64) * (WORDS * LANES) <= words:
        _dequantize(codes, scales, global_scale, out, words, True, dtype, DIVIDE, MODE, WORDS, LANES)
    else:
        _dequantize(codes, scales, global_scale, out, words, False, dtype, DIVIDE, MODE, WORDS, LANES)


def constants(out_dtype: torch.dtype, divide: bool, config: DequantConfig) -> dict[str, Any]:
    """The kernel's compile-time arguments."""
    return {
        "dtype": TRITON_DTYPES[out_dtype],
        "DIVIDE": divide,
        "MODE": config.decode,
        "WORDS": config.words,
        "LANES": 32 * config.warps,
    }


def dequantize_nvfp4(weight: NVFP4Weight, out: torch.Tensor, config: DequantConfig) -> None:
    """Writes out [N, K] in the exact order; the weight's scales are linear. Raises ValueError for unaligned codes."""
    require_launchable(dequantize_nvfp4_kernel, out)
    require_aligned("codes", weight.codes)
    codes = weight.codes.view(-1).view(torch.int32)
    destination = out.view(-1) if out.dtype == torch.float32 else out.view(-1).view(torch.int32)
    dequantize_nvfp4_kernel[(triton.cdiv(codes.numel(), config.block),)](
        codes,
        weight.block_scale_bytes,
        weight.global_scale,
        destination,
        codes.numel(),
        **constants(out.dtype, weight.global_scale_use == "divide", config),
        num_warps=config.warps,
        enable_fp_fusion=False,
    )
