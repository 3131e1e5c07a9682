"""y = W x at batch 1 to 16 by Triton: the configuration of `gemv_kernel.py`'s kernel and its launch.

All sums are float32 in a fixed order: results repeat bit by bit. The scale for the tensor or the row is applied last
and once. I/O: the weight's stored bytes + x and y once; x comes from L2 or L1 after the first program.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
import triton
import triton.language as tl

from roofprobe.kernels.decode import MODES
from roofprobe.kernels.formats import FP8Weight, MXFP4Weight, Weight, format_name
from roofprobe.kernels.gemv_kernel import gemv_kernel
from roofprobe.kernels.gemv_mma import gemv_mma_kernel
from roofprobe.kernels.launch import ALIGNMENT, power_of_two, require_aligned, require_launchable
from roofprobe.lane_registers import stated_registers

TRITON_DTYPES = {torch.float32: tl.float32, torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}
WORD_DTYPES = {4: torch.int32, 2: torch.int16, 1: torch.uint8}  # bytes -> the word


GEMV_MODES = (*MODES, "mma")
"""The decode modes, and tensor cores (`gemv_mma.py`; cc 8.9 and up)."""
BLOCK_FORMATS = ("nvfp4", "mxfp4")


@dataclass(frozen=True)
class GemvConfig:
    """warps a program, rows a lane (`row_groups`), bytes of a row that the lanes cover at once (`tile_bytes`).

    A program takes 512 * warps / tile_bytes * row_groups rows. `stages` above 1 lets Triton pipeline the loop through
    shared memory; `decode` is a mode of `decode.py`, or "mma": lanes by fours along a row, so tile_bytes is 64 to 64 *
    warps, and rows by pairs of groups. Raises ValueError for a value out of range.
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
        if self.decode not in GEMV_MODES:
            raise ValueError(f"decode: expected {', '.join(map(repr, GEMV_MODES))}, got {self.decode!r}")
        if self.decode == "mma" and not 64 <= self.tile_bytes <= 64 * self.warps:
            raise ValueError(f"tile_bytes: 'mma' expects 64 to 64 * warps = {64 * self.warps}, got {self.tile_bytes}")
        if self.decode == "mma" and self.row_groups < 2:
            raise ValueError(f"row_groups: 'mma' expects at least 2, got {self.row_groups}")

    @property
    def lane_rows(self) -> int:
        return 512 * self.warps // self.tile_bytes


def gemv_mode(weight_format: str, k: int, x_dtype: torch.dtype, mode: str) -> str:
    """ "mma" where a GPU's decode mode is "e4m3" and tensor cores can do it, else that mode.

    They take FP4 in rows of whole 16 bytes and 16-bit x. "fhfma" is short enough as it is. "mma" has not run on
    hardware: it is chosen because its PTX, run by the tests, gives the oracles' answers, and its 4.7 instructions a
    weight byte leave an H200 room that the 8.1 of "e4m3" do not (`audit_budgets.py`).
    """
    fits = weight_format in BLOCK_FORMATS and k % 32 == 0 and x_dtype in (torch.bfloat16, torch.float16)
    return "mma" if mode == "e4m3" and fits else mode


def usable(config: GemvConfig, weight_format: str, k: int, x_dtype: torch.dtype) -> GemvConfig:
    """The configuration that is really used: where "mma" does not fit the operands, "e4m3" in its stead."""
    if config.decode == "mma" and gemv_mode(weight_format, k, x_dtype, "e4m3") != "mma":
        return replace(config, decode="e4m3", row_groups=min(config.row_groups, 4))
    return config


def default_config(n: int, batch: int, multiprocessors: int, decode: str = "bits") -> GemvConfig:
    """Rows in flight per lane by batch (registers), then fewer rows a program until every multiprocessor has four.

    Four warps and segments of 128 bytes; a short matrix gets longer segments, up to all lanes on one row. "mma": eight
    warps side by side along K, as many rows a lane as leave every multiprocessor one program, whose loads, 4 KiB a row
    of a lane, are then enough; activations are read and scaled once for all of them.
    """
    if decode == "mma":
        groups = 8 if batch <= 2 else 4 if batch <= 4 else 2
        while groups > 2 and triton.cdiv(n, 8 * groups) < multiprocessors:
            groups //= 2
        return GemvConfig(warps=8, row_groups=groups, tile_bytes=512, decode=decode)
    config = GemvConfig(row_groups=4 if batch <= 2 else 2, decode=decode)
    while triton.cdiv(n, config.lane_rows * config.row_groups) < 4 * multiprocessors:
        if config.row_groups > 1:
            config = replace(config, row_groups=config.row_groups // 2)
        elif config.lane_rows > 1:
            config = replace(config, tile_bytes=2 * config.tile_bytes)
        else:
            break
    return config


def constants(
    weight_format: str,
    k: int,
    batch: int,
    x_dtype: torch.dtype,
    out_dtype: torch.dtype,
    config: GemvConfig,
    *,
    divide: bool = False,
    by_row: bool = False,
    swizzled: bool = False,
) -> dict[str, Any]:
    """The kernel's compile-time arguments for a weight format ("bf16", "fp8", "nvfp4", "mxfp4"), shapes and dtypes."""
    per_byte = {"bf16": 0.5, "fp8": 1, "nvfp4": 2, "mxfp4": 2}[weight_format]
    word_bytes = next(size for size in (4, 2, 1) if size * per_byte >= 1 and k % (size * per_byte) == 0)
    per_word = int(word_bytes * per_byte)
    words, tile = k // per_word, config.tile_bytes // 4  # 16 bytes a lane are four words; narrow words cover less
    packed = per_word > 1 and x_dtype != torch.float32
    x_kind = "elements" if not packed else "bf16x2" if x_dtype == torch.bfloat16 else "fp16x2"
    paired = config.decode == "fhfma" and packed and (weight_format != "bf16" or x_kind == "bf16x2")
    options = {
        "FORMAT": weight_format,
        "MODE": config.decode,
        "X": x_kind,
        "PAIRS": x_kind if paired else "",
        "dtype": TRITON_DTYPES[out_dtype],
        "DIVIDE": divide,
        "BY_ROW": by_row,
        "SWIZZLED": swizzled,
        "SCALE_BYTES": 2 if weight_format == "nvfp4" and k % 32 == 0 else 1,
        "PER_WORD": per_word,
        "ALIGN": next(a for a in (4, 2, 1) if words % a == 0),
        "WHOLE_TILES": words % tile == 0,
        "BATCH": batch,
        "GROUPS": config.row_groups,
        "LANE_ROWS": config.lane_rows,
        "TILE": tile,
        "STAGES": config.stages,
    }
    if config.decode == "mma":
        return {name: options[name] for name in options if name not in ("PAIRS", "BY_ROW", "STAGES")}
    return options


def operands(
    weight: Weight, x: torch.Tensor, batch: int, out_dtype: torch.dtype, config: GemvConfig
) -> tuple[tuple[torch.Tensor, ...], dict[str, Any]]:
    """((weight words, block scales, scale, x) as the kernel reads them, its compile-time arguments).

    Raises ValueError for a weight that does not start on 16 bytes.
    """
    k = x.shape[1]
    how: dict[str, Any] = {}
    if isinstance(weight, torch.Tensor):
        words = scales = scale = weight
    elif isinstance(weight, FP8Weight):
        words = scales = weight.value_bytes
        scale = weight.scale
        how["by_row"] = scale.dim() == 1
    else:
        words, scales = weight.codes, weight.block_scale_bytes
        scale = scales if isinstance(weight, MXFP4Weight) else weight.global_scale
        how["swizzled"] = weight.swizzled
        how["divide"] = not isinstance(weight, MXFP4Weight) and weight.global_scale_use == "divide"
    options = constants(format_name(weight), k, batch, x.dtype, out_dtype, config, **how)
    words = words.view(WORD_DTYPES[words.shape[1] * words.element_size() * options["PER_WORD"] // k])
    require_aligned("weight", words)
    if options["SCALE_BYTES"] == 2:
        scales = scales.view(torch.int16)
    if x.data_ptr() % ALIGNMENT:
        x = x.clone()
    return (words, scales, scale, x if options["X"] == "elements" else x.view(torch.int32)), options


def gemv(weight: Weight, x: torch.Tensor, out: torch.Tensor, config: GemvConfig) -> None:
    """out [B, N] = x [B, K] W^T; x contiguous in bfloat16, float16 or float32; B from 1 to 16.

    Raises ValueError for a weight that does not start on 16 bytes.
    """
    require_launchable(gemv_kernel, out)
    batch, n = out.shape
    config = usable(config, format_name(weight), x.shape[1], x.dtype)
    tensors, options = operands(weight, x, batch, out.dtype, config)
    kernel = gemv_mma_kernel if config.decode == "mma" else gemv_kernel
    kernel[(triton.cdiv(n, config.lane_rows * config.row_groups),)](
        *tensors,
        out,
        n,
        tensors[0].shape[1] // options["ALIGN"],
        **options,
        num_warps=config.warps,
        maxnreg=stated_registers(options["FORMAT"], config.warps, config.row_groups, batch),
        enable_fp_fusion=False,
    )
