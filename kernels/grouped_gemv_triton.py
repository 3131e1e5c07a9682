"""Triton kernel for the grouped GEMV: the GEMV's own body, on the matrix that a (token, expert) pair names.

The expert's number is read on the device, so nothing waits for the host. All pairs of one row tile are neighbours in
launch order: where tokens share an expert, its rows come from DRAM once and from L2 for the others.
I/O: the chosen experts' stored bytes + x, expert_ids and y once.
"""

import torch
import triton
import triton.language as tl

from roofprobe.kernels import gemv_triton
from roofprobe.kernels.decode import MODES, rounded_to
from roofprobe.kernels.experts import Experts, expert
from roofprobe.kernels.gemv_kernel import gemv_rows
from roofprobe.kernels.gemv_triton import GemvConfig
from roofprobe.kernels.launch import device_mode, multiprocessors, require_launchable
from roofprobe.lane_registers import stated_registers

MOST_PROGRAMS = 65535  # of a grid's second and third dimension


@triton.jit
def _expert_scales(
    n, words, FORMAT: tl.constexpr, SWIZZLED: tl.constexpr, SCALE_BYTES: tl.constexpr,
):  # fmt: skip
    """Loads of SCALE_BYTES that an expert's block scales take, padding included; 0 for a format without."""
    if FORMAT == "nvfp4" or FORMAT == "mxfp4":
        columns = words // 2 if FORMAT == "nvfp4" else words // 4
        if SWIZZLED:
            size = (n + 127) // 128 * ((columns + 3) // 4) * (512 // SCALE_BYTES)
        else:
            size = n * (columns // SCALE_BYTES)
    else:
        size = 0
    return size


@triton.jit(do_not_specialize=["n", "aligned_words", "experts"])
def grouped_gemv_kernel(
    weight, scales, scale, x, y, expert_ids, n, aligned_words, experts,
    FORMAT: tl.constexpr, MODE: tl.constexpr, X: tl.constexpr, PAIRS: tl.constexpr, dtype: tl.constexpr,
    DIVIDE: tl.constexpr, BY_ROW: tl.constexpr, SWIZZLED: tl.constexpr, SCALE_BYTES: tl.constexpr,
    PER_WORD: tl.constexpr, ALIGN: tl.constexpr, WHOLE_TILES: tl.constexpr, BATCH: tl.constexpr,
    GROUPS: tl.constexpr, LANE_ROWS: tl.constexpr, TILE: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """weight words [experts, n, aligned_words * ALIGN], y [tokens, top_k, n]; BATCH is 1; grid top_k, tokens, tiles."""
    words = aligned_words * ALIGN
    token, tile = tl.program_id(1), tl.program_id(2)
    pair = token * tl.num_programs(0) + tl.program_id(0)
    number = tl.load(expert_ids + pair)
    y += pair.to(tl.int64) * n
    if (number >= 0) & (number < experts):
        e = number.to(tl.int64)
        X_STRIDE: tl.constexpr = PER_WORD if X == "elements" else PER_WORD // 2
        gemv_rows(
            tile, weight + e * n * words,
            scales + e * _expert_scales(n, words, FORMAT, SWIZZLED, SCALE_BYTES),
            scale + e * (n if BY_ROW else 1 if FORMAT == "nvfp4" or FORMAT == "fp8" else 0),
            x + token.to(tl.int64) * words * X_STRIDE, y, n, words,
            FORMAT, MODE, X, PAIRS, dtype, DIVIDE, BY_ROW, SWIZZLED, SCALE_BYTES,
            PER_WORD, WHOLE_TILES, BATCH, GROUPS, LANE_ROWS, TILE, STAGES,
        )  # fmt: skip
    else:
        row = tile * (GROUPS * LANE_ROWS) + tl.arange(0, GROUPS * LANE_ROWS)
        nan = tl.full([GROUPS * LANE_ROWS], float("nan"), tl.float32)
        tl.store(y + row, rounded_to(nan, dtype), mask=row < n)


def default_config(weights: Experts, expert_ids: torch.Tensor) -> GemvConfig:
    """The GEMV's for one matrix as high as all the pairs' together: their programs fill the multiprocessors."""
    rows, device = weights.shape[1] * expert_ids.numel(), weights.device
    return gemv_triton.default_config(rows, 1, multiprocessors(device), device_mode(device))


def grouped_gemv(
    weights: Experts, x: torch.Tensor, expert_ids: torch.Tensor, out: torch.Tensor, config: GemvConfig
) -> None:
    """out [T, top_k, N]; all contiguous. A row whose expert number is out of range becomes NaN.

    Raises ValueError for weights that do not start on 16 bytes.
    """
    require_launchable(grouped_gemv_kernel, out)
    if config.decode not in MODES:
        raise ValueError(f"grouped_gemv: decode: expected {', '.join(map(repr, MODES))}, got {config.decode!r}")
    experts, n, _ = weights.shape
    tokens, top_k = expert_ids.shape
    tiles = triton.cdiv(n, config.lane_rows * config.row_groups)
    if max(tokens, tiles) > MOST_PROGRAMS:
        raise ValueError(f"grouped_gemv: expected at most {MOST_PROGRAMS} tokens and row tiles, got {tokens}, {tiles}")
    # the first expert's tensors: the kernel steps from them to the others'
    tensors, options = gemv_triton.operands(expert(weights, 0), x, 1, out.dtype, config)
    grouped_gemv_kernel[(top_k, tokens, tiles)](
        *tensors,
        out,
        expert_ids,
        n,
        tensors[0].shape[1] // options["ALIGN"],
        experts,
        **options,
        num_warps=config.warps,
        maxnreg=stated_registers(options["FORMAT"], config.warps, config.row_groups, 1),
        enable_fp_fusion=False,
    )
