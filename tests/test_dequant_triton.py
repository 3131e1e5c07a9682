"""Dequantization by Triton and by the eager reference: the exact order of rounding, bit for bit."""

from typing import Any

from numerics import (
    DEVICE,
    any_e8m0,
    any_fp8,
    any_scales,
    check_dequantize,
    every_code_and_e8m0,
    every_code_and_scale,
    every_fp8,
    in_swizzled_layout,
)
import pytest
import torch
import triton
import triton.language as tl

from roofprobe.kernels.decode import MODES, bfloat16_bits
from roofprobe.kernels.dequant import algorithmic_bytes, dequantize
from roofprobe.kernels.dequant_triton import DequantConfig
from roofprobe.kernels.formats import random_fp8, random_mxfp4, random_nvfp4
from roofprobe.kernels.launch import device_mode

SMALL = DequantConfig(warps=1, words=2)  # programs of 512 weights
SCALES = {
    "usual": 0.0123,
    "subnormal": 1e-41,  # products round to subnormals too
    "huge": 1e37,  # overflows for large codes
    "zero": 0.0,
    "negative": -3.3,
    "infinite": float("inf"),  # times zero is NaN
}
OUT_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
pytestmark = pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")  # numpy's, in the interpreter


@pytest.mark.parametrize("use", ["multiply", "divide"])
@pytest.mark.parametrize("global_scale", SCALES.values(), ids=SCALES)
@pytest.mark.parametrize("backend", ["triton", "torch"])
def test_every_code_under_every_scale_byte(backend: str, global_scale: float, use: str) -> None:
    check_dequantize(every_code_and_scale(global_scale, use), torch.float32, backend)


@pytest.mark.parametrize("dtype", OUT_DTYPES[1:], ids=str)
@pytest.mark.parametrize("use", ["multiply", "divide"])
@pytest.mark.parametrize("backend", ["triton", "torch"])
def test_sixteen_bit_results_round_to_nearest_even(backend: str, use: str, dtype: torch.dtype) -> None:
    # 1.00390625 = 1 + 2^-8 puts every power of two exactly between two bfloat16, where truncation and RNE differ
    for global_scale in (1.00390625, 1.01171875, 0.0123):
        check_dequantize(every_code_and_scale(global_scale, use), dtype, backend)


@pytest.mark.parametrize("dtype", OUT_DTYPES, ids=str)
@pytest.mark.parametrize("backend", ["triton", "torch"])
def test_every_code_under_every_e8m0_byte(backend: str, dtype: torch.dtype) -> None:
    check_dequantize(every_code_and_e8m0(), dtype, backend)


@pytest.mark.parametrize("dtype", OUT_DTYPES, ids=str)
@pytest.mark.parametrize("backend", ["triton", "torch"])
def test_every_fp8_value_under_every_kind_of_scale(backend: str, dtype: torch.dtype) -> None:
    check_dequantize(every_fp8([*SCALES.values(), 1.00390625]), dtype, backend)
    check_dequantize(every_fp8(1.00390625), dtype, backend)


@pytest.mark.parametrize("shape", [(1, 32), (130, 96), (257, 160)], ids=["one row", "two row tiles", "three"])
@pytest.mark.parametrize("make", [any_scales, any_e8m0], ids=["nvfp4", "mxfp4"])
@pytest.mark.parametrize("backend", ["triton", "torch"])
def test_swizzled_scales_are_read_in_place(backend: str, make: Any, shape: tuple[int, int]) -> None:
    check_dequantize(in_swizzled_layout(make(*shape, 3)), torch.float32, backend)


@pytest.mark.parametrize("k", [64, 66, 67], ids=["words of four", "of two", "of one"])
@pytest.mark.parametrize("per_row", [True, False])
@pytest.mark.parametrize("dtype", OUT_DTYPES, ids=str)
def test_fp8_rows_of_any_length(dtype: torch.dtype, per_row: bool, k: int) -> None:
    check_dequantize(any_fp8(9, k, 3, per_row), dtype, "triton", SMALL)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", OUT_DTYPES, ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_every_decode_mode_gives_the_same_bits(mode: str, dtype: torch.dtype) -> None:
    if MODES.index(mode) > MODES.index(device_mode(torch.device(DEVICE))):
        pytest.skip(f"this GPU has no {mode!r}")
    config = DequantConfig(decode=mode)
    weights = (every_code_and_scale(0.0123, "divide"), every_code_and_e8m0(), every_fp8([0.0123, 1e-41]))
    for weight in (*weights, in_swizzled_layout(any_scales(130, 96, 3))):
        check_dequantize(weight, dtype, "triton", config)


@triton.jit
def bfloat16_bits_kernel(source, out, LENGTH: tl.constexpr):
    i = tl.arange(0, LENGTH)
    tl.store(out + i, bfloat16_bits(tl.load(source + i)).to(tl.int32, bitcast=True))


ROUNDED = {  # float32 bits -> bfloat16 bits
    0x3F808000: 0x3F80,  # a tie, to even below
    0x3F818000: 0x3F82,  # a tie, to even above
    0x3F808001: 0x3F81,
    0x7F7FFFFF: 0x7F80,  # overflows to infinity
    0xFF800000: 0xFF80,
    0x80000000: 0x8000,
    0x00008001: 0x0001,  # subnormal
    0x7FFFFFFF: 0x7FC0,  # the NaN that NVIDIA's units make: rounding it as a number would give minus zero
}


def test_rounding_to_bfloat16_of_ties_extremes_and_nan() -> None:
    source = torch.tensor(list(ROUNDED), dtype=torch.int64).to(torch.int32).view(torch.float32).to(DEVICE)
    out = torch.zeros(len(ROUNDED), dtype=torch.int32, device=DEVICE)
    bfloat16_bits_kernel[(1,)](source, out, LENGTH=len(ROUNDED))
    assert out.tolist() == list(ROUNDED.values())


@pytest.mark.parametrize("n", [1, 3, 130])
@pytest.mark.parametrize("k", [16, 48, 272], ids=["one block", "no power of two", "more than one program"])
def test_shapes_that_no_program_divides(n: int, k: int) -> None:
    check_dequantize(any_scales(n, k, 3), torch.bfloat16, "triton", SMALL)


@pytest.mark.parametrize("dtype", OUT_DTYPES, ids=str)
def test_whole_programs_and_a_partial_one(dtype: torch.dtype) -> None:
    check_dequantize(any_scales(3, 272, 4), dtype, "triton", SMALL)


def test_nothing_is_written_past_the_end() -> None:
    weight = any_scales(3, 48, 5)
    memory = torch.full((4, 48), 77.0, dtype=torch.bfloat16, device=DEVICE)
    dequantize(weight, out=memory[:3], backend="triton")
    assert (memory[3] == 77).all()


def test_bytes() -> None:
    weight = random_nvfp4(4, 32, 1, "cpu")
    assert algorithmic_bytes(weight, torch.bfloat16) == 4 * 16 + 4 * 2 + 4 + 4 * 32 * 2
    assert algorithmic_bytes(random_mxfp4(4, 32, 1, "cpu"), torch.float32) == 4 * 16 + 4 + 4 * 32 * 4
    assert algorithmic_bytes(random_fp8(4, 32, 1, "cpu", per_row=True), torch.float16) == 4 * 32 + 4 * 4 + 4 * 32 * 2


@pytest.mark.parametrize("values", [{"warps": 0}, {"words": 3}, {"decode": "magic"}], ids=str)
def test_a_config_out_of_range_is_refused(values: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(values))}: expected .* got"):
        DequantConfig(**values)
