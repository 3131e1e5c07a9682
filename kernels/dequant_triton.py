"""Triton kernel that turns FP8, NVFP4 and MXFP4 into float32, bfloat16 or float16.

Order of rounding, the *exact* order of `dequant.py`: FP8's value and FP4's e2m1 * block scale are exact in float32
(MXFP4's is infinite from 2^128 up); one rounding for the product with, or the quotient by, the scale for the tensor or
the row; for a 16-bit output one more, to nearest even. A NaN scale or value gives NaN; zeros keep their sign.
I/O per weight: 1, 0.5 + 1/16 or 0.5 + 1/32 bytes read, 2 (or 4) written.
"""

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl

from roofprobe.kernels.decode import (
    MODES,
    e2m1_factor,
    e2m1_x8,
    e4m3_x2,
    e4m3_x4,
    rounded_pair,
    rounded_to,
    with_scale,
)
from roofprobe.kernels.formats import FP8Weight, MXFP4Weight, QuantizedWeight, format_name
from roofprobe.kernels.launch import power_of_two, require_aligned, require_launchable
from roofprobe.kernels.scales_triton import block_scale_x2, swizzled_column, swizzled_row

TRITON_DTYPES = {torch.float32: tl.float32, torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}
FP8_WORDS = {4: torch.int32, 2: torch.int16, 1: torch.uint8}  # values a word -> the word
LANE_WEIGHTS = 8  # one 128-bit store of 16-bit output


@dataclass(frozen=True)
class DequantConfig:
    """warps a program, groups of 8 weights (`words`) that a thread converts, and the `decode` mode.

    Raises ValueError for a value out of range.
    """

    warps: int = 4
    words: int = 4
    decode: str = "bits"

    def __post_init__(self) -> None:
        power_of_two("warps", self.warps, 16)
        power_of_two("words", self.words, 16)
        if self.decode not in MODES:
            raise ValueError(f"decode: expected {', '.join(map(repr, MODES))}, got {self.decode!r}")

    @property
    def block(self) -> int:
        """Weights that a program converts."""
        return self.warps * 32 * self.words * LANE_WEIGHTS


@triton.jit
def _interleaved(v):
    """A tuple of 1, 2, 4 or 8 tensors [T] as one [T * its length], the tuple's index running fastest."""
    if len(v) == 1:
        joined = v[0]
    elif len(v) == 2:
        joined = tl.reshape(tl.join(v[0], v[1]), [v[0].shape[0] * 2])
    elif len(v) == 4:
        joined = tl.reshape(tl.join(tl.join(v[0], v[2]), tl.join(v[1], v[3])), [v[0].shape[0] * 4])
    else:
        even = tl.join(tl.join(v[0], v[4]), tl.join(v[2], v[6]))
        odd = tl.join(tl.join(v[1], v[5]), tl.join(v[3], v[7]))
        joined = tl.reshape(tl.join(even, odd), [v[0].shape[0] * 8])
    return joined


@triton.jit
def _output(v, dtype: tl.constexpr, MODE: tl.constexpr):
    """float32 values as what is stored: float32, words of two 16-bit results, or one 16-bit result a word."""
    if dtype == tl.float32:
        units = v
    elif len(v) == 1:
        units = (rounded_to(v[0], dtype),)
    else:
        units = ()
        for j in tl.static_range(len(v) // 2):
            units += (rounded_pair(v[2 * j], v[2 * j + 1], dtype, MODE).to(tl.int32, bitcast=True),)
    return _interleaved(units)


@triton.jit
def _converted(
    word, scale_byte, scale, FORMAT: tl.constexpr, PER_WORD: tl.constexpr, DIVIDE: tl.constexpr, MODE: tl.constexpr
):
    """The weights of words [T] in the order of k, as float32."""
    bits = word.to(tl.uint32)
    if FORMAT == "fp8":
        values = e4m3_x4(bits, MODE) if PER_WORD == 4 else e4m3_x2(bits, MODE)
    else:
        values = e2m1_x8(bits, MODE)
        s, _ = block_scale_x2(scale_byte.to(tl.uint32), FORMAT, MODE)
        if FORMAT == "nvfp4":
            s = s * e2m1_factor(MODE)
    results = ()
    for j in tl.static_range(PER_WORD):
        value = values[j]
        if FORMAT == "nvfp4":
            value = with_scale(value * s, scale, DIVIDE)
        elif FORMAT == "mxfp4":
            value = value * e2m1_factor(MODE) * s  # in this order: the factor times 2^127 would overflow
        else:
            value = value * scale
        results += (value,)
    return results


@triton.jit
def _load(pointer, mask, WHOLE: tl.constexpr):
    if WHOLE:
        value = tl.load(pointer)
    else:
        value = tl.load(pointer, mask=mask, other=0)
    return value


@triton.jit
def _dequantize(
    codes, scales, scale, out, words, WHOLE: tl.constexpr, FORMAT: tl.constexpr, PER_WORD: tl.constexpr,
    ROW_WORDS: tl.constexpr, SWIZZLED: tl.constexpr, dtype: tl.constexpr, DIVIDE: tl.constexpr, MODE: tl.constexpr,
    WORDS: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """WORDS tiles of words: all their loads come before the first store."""
    UNITS: tl.constexpr = PER_WORD if dtype == tl.float32 or PER_WORD == 1 else PER_WORD // 2
    BLOCK_WORDS: tl.constexpr = 4 if FORMAT == "mxfp4" else 2
    first = tl.program_id(0).to(tl.int64) * (WORDS * TILE)
    loaded = ()
    for t in tl.static_range(WORDS):
        word = first + t * TILE + tl.arange(0, TILE)
        code = _load(codes + word, word < words, WHOLE)
        if FORMAT == "fp8":
            row = word.to(tl.uint32) // ROW_WORDS if ROW_WORDS else 0
            loaded += ((code, 0, _load(scale + row, word < words, WHOLE) if ROW_WORDS else 0),)
        elif SWIZZLED:
            row = (word.to(tl.uint32) // ROW_WORDS).to(tl.int64)
            column = word.to(tl.uint32) % ROW_WORDS // BLOCK_WORDS
            offset = swizzled_row(row, ROW_WORDS // BLOCK_WORDS) + swizzled_column(column)
            loaded += ((code, _load(scales + offset, word < words, WHOLE), 0),)
        else:
            loaded += ((code, _load(scales + word // BLOCK_WORDS, word < words, WHOLE), 0),)
    g = 0.0 if FORMAT == "mxfp4" or (FORMAT == "fp8" and ROW_WORDS) else tl.load(scale)
    for t in tl.static_range(WORDS):
        s = loaded[t][2] if FORMAT == "fp8" and ROW_WORDS else g
        results = _converted(loaded[t][0], loaded[t][1], s, FORMAT, PER_WORD, DIVIDE, MODE)
        i = (first + t * TILE) * UNITS + tl.arange(0, TILE * UNITS)
        if WHOLE:
            tl.store(out + i, _output(results, dtype, MODE))
        else:
            tl.store(out + i, _output(results, dtype, MODE), mask=i < words.to(tl.int64) * UNITS)


@triton.jit(do_not_specialize=["words"])
def dequantize_kernel(
    codes, scales, scale, out, words, FORMAT: tl.constexpr, PER_WORD: tl.constexpr,
    ROW_WORDS: tl.constexpr, SWIZZLED: tl.constexpr, dtype: tl.constexpr, DIVIDE: tl.constexpr, MODE: tl.constexpr,
    WORDS: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """codes [words] of PER_WORD weights; ROW_WORDS: words a row where the scale depends on the row, else 0."""
    if (tl.program_id(0) + 1).to(tl.int64) * (WORDS * TILE) <= words:
        _dequantize(
            codes, scales, scale, out, words, True,
            FORMAT, PER_WORD, ROW_WORDS, SWIZZLED, dtype, DIVIDE, MODE, WORDS, TILE,
        )  # fmt: skip
    else:
        _dequantize(
            codes, scales, scale, out, words, False,
            FORMAT, PER_WORD, ROW_WORDS, SWIZZLED, dtype, DIVIDE, MODE, WORDS, TILE,
        )  # fmt: skip


def constants(
    weight_format: str,
    k: int,
    out_dtype: torch.dtype,
    config: DequantConfig,
    *,
    divide: bool = False,
    by_row: bool = False,
    swizzled: bool = False,
) -> dict[str, Any]:
    """The kernel's compile-time arguments; `by_row`: an FP8 scale for each row."""
    per_word = 8 if weight_format != "fp8" else 4 if k % 4 == 0 else 2 if k % 2 == 0 else 1
    return {
        "FORMAT": weight_format,
        "PER_WORD": per_word,
        "ROW_WORDS": k // per_word if by_row or swizzled else 0,
        "SWIZZLED": swizzled,
        "dtype": TRITON_DTYPES[out_dtype],
        "DIVIDE": divide,
        "MODE": config.decode,
        "WORDS": config.words,
        "TILE": 32 * config.warps * (LANE_WEIGHTS // per_word),
    }


def dequantize(weight: QuantizedWeight, out: torch.Tensor, config: DequantConfig) -> None:
    """Writes out [N, K] in the exact order; both scale layouts are read in place.

    Raises ValueError for unaligned codes and, where rows matter to the scale, for 2^32 words and more.
    """
    require_launchable(dequantize_kernel, out)
    options: dict[str, Any] = {}
    if isinstance(weight, FP8Weight):
        codes, scales, scale = weight.value_bytes, weight.value_bytes, weight.scale
        options["by_row"] = scale.dim() == 1
    else:
        codes, scales = weight.codes, weight.block_scale_bytes
        scale = scales if isinstance(weight, MXFP4Weight) else weight.global_scale
        options["swizzled"] = weight.swizzled
        options["divide"] = not isinstance(weight, MXFP4Weight) and weight.global_scale_use == "divide"
    require_aligned("codes", codes)
    used = constants(format_name(weight), weight.shape[1], out.dtype, config, **options)
    words = codes.view(-1).view(FP8_WORDS[used["PER_WORD"]] if isinstance(weight, FP8Weight) else torch.int32)
    if used["ROW_WORDS"] and words.numel() >= 2**32:
        raise ValueError(f"weight: expected fewer than {2**32} words of {used['PER_WORD']}, got {words.numel()}")
    whole = out.dtype == torch.float32 or used["PER_WORD"] == 1
    dequantize_kernel[(triton.cdiv(out.numel(), config.block),)](
        words,
        scales,
        scale,
        out.view(-1) if whole else out.view(-1).view(torch.int32),
        words.numel(),
        **used,
        num_warps=config.warps,
        enable_fp_fusion=False,
    )
