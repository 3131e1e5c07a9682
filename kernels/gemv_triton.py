"""Triton kernel for y = W x at batch 1 to 16, one kernel for every weight format.

A program takes `row_groups` groups of rows and walks along K. The lanes of a warp lie on a tile of rows by words, 16
bytes of weight a lane, so that one load of x serves every row of the tile and, held in registers, every group; each
decoded weight serves the whole batch. x is loaded at the tile's full shape: with a narrower shape Triton gives it
another layout and moves it through shared memory in the loop. All sums are float32 in a fixed order: results
repeat bit by bit.
I/O: the weight's stored bytes + x and y once; x comes from L2 or L1 after the first program.
"""

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl

from roofprobe.kernels.decode import (
    bfloat16_pair,
    e2m1_x16,
    e4m3_for_e2m1,
    rounded_to,
    sixteen_bit_x4,
    with_global_scale,
)
from roofprobe.kernels.formats import NVFP4Weight, Weight, format_name
from roofprobe.kernels.launch import ALIGNMENT, power_of_two, require_aligned, require_launchable

TRITON_DTYPES = {torch.float32: tl.float32, torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}
WORD_DTYPES = {4: torch.int64, 2: torch.int32, 1: torch.int16}  # bfloat16 weights a word -> the word


@dataclass(frozen=True)
class GemvConfig:
    """warps a program, rows a lane (`row_groups`), bytes of a row that the lanes cover at once (`tile_bytes`).

    A program takes 512 * warps / tile_bytes * row_groups rows. `stages` above 1 lets Triton pipeline the loop through
    shared memory. Raises ValueError for a value out of range.
    """

    warps: int = 4
    row_groups: int = 4
    tile_bytes: int = 128
    stages: int = 1
    decode: str = "bits"

    def __post_init__(self) -> None:
        power_of_two("warps", self.warps, 16)
        power_of_two("row_groups", self.row_groups, 16)
        power_of_two("tile_bytes", self.tile_bytes, 512 * self.warps)
        if self.tile_bytes < 32:
            raise ValueError(f"tile_bytes: expected at least 32, got {self.tile_bytes}")
        if not 1 <= self.stages <= 8:
            raise ValueError(f"stages: expected 1 to 8, got {self.stages}")
        if self.decode != "bits":
            raise ValueError(f"decode: expected 'bits', got {self.decode!r}")

    @property
    def lane_rows(self) -> int:
        return 512 * self.warps // self.tile_bytes


def default_config(n: int, batch: int, multiprocessors: int) -> GemvConfig:
    """Rows in flight per lane by batch (registers), then fewer rows a program until every multiprocessor has four.

    Four warps and segments of 128 bytes; a short matrix gets longer segments, up to all lanes on one row.
    """
    groups = 4 if batch <= 2 else 2
    config = GemvConfig(row_groups=groups)
    while triton.cdiv(n, config.lane_rows * config.row_groups) < 4 * multiprocessors:
        if config.row_groups > 1:
            config = GemvConfig(row_groups=config.row_groups // 2)
        elif config.lane_rows > 1:
            config = GemvConfig(row_groups=1, tile_bytes=2 * config.tile_bytes)
        else:
            break
    return config


@triton.jit
def _weights(word, FORMAT: tl.constexpr, MODE: tl.constexpr):
    """The weights of a word in the order of k, as float32: 16 for NVFP4, 4, 2 or 1 for bfloat16."""
    if FORMAT == "nvfp4":
        values = e2m1_x16(word, MODE)
    elif FORMAT == "bf16x4":
        values = sixteen_bit_x4(word, True)
    elif FORMAT == "bf16x2":
        values = bfloat16_pair(word.to(tl.uint32))
    else:
        values = (bfloat16_pair(word.to(tl.uint32))[0],)
    return values


@triton.jit
def _load(pointer, mask, MASKED: tl.constexpr):
    if MASKED:
        value = tl.load(pointer, mask=mask, other=0)
    else:
        value = tl.load(pointer)
    return value


@triton.jit
def _activations(x, word, mask, MASKED: tl.constexpr, PER_WORD: tl.constexpr, X: tl.constexpr):
    """The PER_WORD activations that face a weight word, as float32; X names how they are loaded."""
    values = ()
    if X == "elements":
        for j in tl.static_range(PER_WORD):
            values += (_load(x + word * PER_WORD + j, mask, MASKED).to(tl.float32),)
    else:
        for j in tl.static_range(PER_WORD // 4):
            packed = _load(x + word * (PER_WORD // 4) + j, mask, MASKED)
            values += sixteen_bit_x4(packed, X == "bf16x4")
    return values


@triton.jit
def _step(
    sums, weight, scales, x, row_starts, word, words, MASKED: tl.constexpr,
    FORMAT: tl.constexpr, MODE: tl.constexpr, X: tl.constexpr,
    PER_WORD: tl.constexpr, GROUPS: tl.constexpr, BATCH: tl.constexpr,
):  # fmt: skip
    """`sums` plus the products of one tile of words: decodes each weight once, then serves the batch."""
    # zero times the rows keeps the mask and x at the weights' shape, and so in their layout
    word = word + (row_starts[0] * 0).to(tl.int32)
    mask = word < words
    weights = ()
    block_scales = ()
    for r in tl.static_range(GROUPS):
        position = row_starts[r] + word
        weights += _weights(_load(weight + position, mask, MASKED), FORMAT, MODE)
        if FORMAT == "nvfp4":
            scale = _load(scales + position, mask, MASKED)
            block_scales += (e4m3_for_e2m1(scale, MODE),)
    updated = ()
    X_STRIDE: tl.constexpr = PER_WORD if X == "elements" else PER_WORD // 4
    for b in tl.static_range(BATCH):
        values = _activations(x + b * words * X_STRIDE, word, mask, MASKED, PER_WORD, X)
        for r in tl.static_range(GROUPS):
            total = sums[b * GROUPS + r]
            if FORMAT == "nvfp4":
                dot = weights[r * PER_WORD] * values[0]
                for j in tl.static_range(1, PER_WORD):
                    dot = tl.fma(weights[r * PER_WORD + j], values[j], dot)
                total = tl.fma(dot, block_scales[r], total)
            else:
                for j in tl.static_range(PER_WORD):
                    total = tl.fma(weights[r * PER_WORD + j], values[j], total)
            updated += (total,)
    return updated


@triton.jit(do_not_specialize=["n", "aligned_words"])
def gemv_kernel(
    weight, scales, global_scale, x, y, n, aligned_words,
    FORMAT: tl.constexpr, MODE: tl.constexpr, X: tl.constexpr, dtype: tl.constexpr, DIVIDE: tl.constexpr,
    PER_WORD: tl.constexpr, ALIGN: tl.constexpr, WHOLE_TILES: tl.constexpr,
    BATCH: tl.constexpr, GROUPS: tl.constexpr, LANE_ROWS: tl.constexpr, TILE: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """weight words [n, aligned_words * ALIGN]; ALIGN tells Triton how far rows are aligned, in words."""
    words = aligned_words * ALIGN
    lane_word = tl.arange(0, TILE)[None, :]
    first_row = tl.program_id(0) * (GROUPS * LANE_ROWS)
    row_starts = ()
    sums = ()
    for r in tl.static_range(GROUPS):
        row = first_row + r * LANE_ROWS + tl.arange(0, LANE_ROWS)[:, None]
        row_starts += (tl.minimum(row, n - 1).to(tl.int64) * words,)
    for _ in tl.static_range(BATCH * GROUPS):
        sums += (tl.zeros([LANE_ROWS, TILE], tl.float32),)
    whole = words // TILE * TILE
    for start in tl.range(0, whole, TILE, num_stages=STAGES):
        sums = _step(
            sums, weight, scales, x, row_starts, start + lane_word, words, False,
            FORMAT, MODE, X, PER_WORD, GROUPS, BATCH,
        )  # fmt: skip
    if not WHOLE_TILES:
        sums = _step(
            sums, weight, scales, x, row_starts, whole + lane_word, words, True,
            FORMAT, MODE, X, PER_WORD, GROUPS, BATCH,
        )  # fmt: skip
    for b in tl.static_range(BATCH):
        for r in tl.static_range(GROUPS):
            total = tl.sum(sums[b * GROUPS + r], axis=1)
            if FORMAT == "nvfp4":
                total = with_global_scale(total, tl.load(global_scale), DIVIDE)
            row = first_row + r * LANE_ROWS + tl.arange(0, LANE_ROWS)
            tl.store(y + b * n + row, rounded_to(total, dtype), mask=row < n)


def constants(
    weight_format: str,
    k: int,
    batch: int,
    x_dtype: torch.dtype,
    out_dtype: torch.dtype,
    divide: bool,
    config: GemvConfig,
) -> dict[str, Any]:
    """The kernel's compile-time arguments for a weight format ("nvfp4" or "bf16"), shapes, dtypes and config."""
    per_word = 16 if weight_format == "nvfp4" else 4 if k % 4 == 0 else 2 if k % 2 == 0 else 1
    word_bytes = 8 if weight_format == "nvfp4" else 2 * per_word
    words, tile = k // per_word, config.tile_bytes // word_bytes
    align = next(a for a in (16, 8, 4, 2, 1) if words % a == 0 and a * word_bytes <= 16)
    packed = per_word % 4 == 0 and x_dtype != torch.float32
    packed_name = "bf16x4" if x_dtype == torch.bfloat16 else "fp16x4"
    return {
        "FORMAT": weight_format if weight_format == "nvfp4" else f"bf16x{per_word}",
        "MODE": config.decode,
        "X": packed_name if packed else "elements",
        "dtype": TRITON_DTYPES[out_dtype],
        "DIVIDE": divide,
        "PER_WORD": per_word,
        "ALIGN": align,
        "WHOLE_TILES": words % tile == 0,
        "BATCH": batch,
        "GROUPS": config.row_groups,
        "LANE_ROWS": config.lane_rows,
        "TILE": tile,
        "STAGES": config.stages,
    }


def gemv(weight: Weight, x: torch.Tensor, out: torch.Tensor, config: GemvConfig) -> None:
    """out [B, N] = x [B, K] W^T; x contiguous in bfloat16, float16 or float32; B from 1 to 16.

    Raises ValueError for a weight that does not start on 16 bytes.
    """
    require_launchable(gemv_kernel, out)
    batch, k = x.shape
    n = out.shape[1]
    divide = False
    if isinstance(weight, NVFP4Weight):
        divide = weight.global_scale_use == "divide"
        words = weight.codes.view(torch.int64)
        scales, global_scale = weight.block_scale_bytes, weight.global_scale
    else:
        words = weight.view(WORD_DTYPES[4 if k % 4 == 0 else 2 if k % 2 == 0 else 1])
        scales = global_scale = words  # not read
    options = constants(format_name(weight), k, batch, x.dtype, out.dtype, divide, config)
    require_aligned("weight", words)
    if x.data_ptr() % ALIGNMENT:
        x = x.clone()
    gemv_kernel[(triton.cdiv(n, config.lane_rows * config.row_groups),)](
        words,
        scales,
        global_scale,
        x if options["X"] == "elements" else x.view(torch.int64),
        out,
        n,
        words.shape[1] // options["ALIGN"],
        **options,
        num_warps=config.warps,
        enable_fp_fusion=False,
    )
