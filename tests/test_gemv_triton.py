"""GEMV by Triton and the eager reference: exact sums, every scale byte from its own block, gamma_d on random data.

A program of the interpreter costs some 100 ms at batch 16, so each gate has few shapes, each for a reason.
"""

from typing import Any

from numerics import (
    DEVICE,
    check_block_probes,
    check_e8m0_probes,
    check_exact_gemv,
    check_random_gemv,
    exact_bf16,
    exact_fp8,
    exact_mxfp4,
    exact_nvfp4,
    in_swizzled_layout,
    run_gemv,
    whole_vectors,
)
import pytest
import torch

from roofprobe.kernels.decode import MODES
from roofprobe.kernels.formats import (
    NVFP4Weight,
    Weight,
    random_bf16,
    random_fp8,
    random_mxfp4,
    random_nvfp4,
)
from roofprobe.kernels.gemv import algorithmic_bytes
from roofprobe.kernels.gemv_triton import GemvConfig, default_config
from roofprobe.kernels.launch import device_mode

MAKERS: dict[str, Any] = {"bf16": random_bf16, "fp8": random_fp8, "nvfp4": random_nvfp4, "mxfp4": random_mxfp4}
EXACT: dict[str, Any] = {"bf16": exact_bf16, "fp8": exact_fp8, "nvfp4": exact_nvfp4, "mxfp4": exact_mxfp4}
NARROW = GemvConfig(warps=1, row_groups=2, tile_bytes=32)  # tiles of 16 rows by 32 bytes
SHAPES = {
    "one row, one block": (1, 32),
    "rows that no group divides": (130, 96),
    "several whole tiles and a tail": (3, 288),
}
NVFP4_SHAPES = {"one block": (1, 16), "half a chunk": (130, 48), "rows on 8 bytes": (3, 272)}


def vectors(batch: int, k: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(batch, k, generator=torch.Generator().manual_seed(7)).to(dtype)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("weight_format", EXACT)
@pytest.mark.parametrize("backend", ["triton", "torch"])
def test_exact_sums(backend: str, weight_format: str, shape: tuple[int, int]) -> None:
    config = NARROW if backend == "triton" else None
    check_exact_gemv(EXACT[weight_format](*shape, 1), whole_vectors(1, shape[1], 2), backend, config)


@pytest.mark.parametrize("shape", NVFP4_SHAPES.values(), ids=NVFP4_SHAPES)
def test_nvfp4_rows_that_end_within_a_chunk(shape: tuple[int, int]) -> None:
    weight = exact_nvfp4(*shape, 1)
    for laid_out in (weight, in_swizzled_layout(weight)):
        check_exact_gemv(laid_out, whole_vectors(1, shape[1], 2), "triton", NARROW)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("make", [exact_nvfp4, exact_mxfp4], ids=["nvfp4", "mxfp4"])
@pytest.mark.parametrize("backend", ["triton", "torch"])
def test_exact_sums_with_swizzled_scales(backend: str, make: Any, shape: tuple[int, int]) -> None:
    config = NARROW if backend == "triton" else None
    check_exact_gemv(in_swizzled_layout(make(*shape, 1)), whole_vectors(1, shape[1], 2), backend, config)


@pytest.mark.parametrize("k", [66, 67], ids=["even", "odd"])
def test_fp8_rows_that_start_anywhere(k: int) -> None:
    check_exact_gemv(exact_fp8(5, k, 1), whole_vectors(2, k, 2), "triton", NARROW)


@pytest.mark.parametrize("batch", [3, 16])
@pytest.mark.parametrize("weight_format", EXACT)
def test_exact_sums_of_a_batch(weight_format: str, batch: int) -> None:
    check_exact_gemv(EXACT[weight_format](3, 96, 1), whole_vectors(batch, 96, 2), "triton", NARROW)


@pytest.mark.parametrize("layout", ["linear", "swizzled"])
@pytest.mark.parametrize("backend", ["triton", "torch"])
def test_every_scale_byte_comes_from_its_own_block(backend: str, layout: str) -> None:
    check_block_probes(backend, layout=layout)
    check_e8m0_probes(backend, layout=layout)


@pytest.mark.parametrize("out_dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("weight_format", MAKERS)
def test_random_data(weight_format: str, out_dtype: torch.dtype) -> None:
    weight = MAKERS[weight_format](3, 4128, 1, DEVICE)  # default config: the loop turns often and ends in a tail
    check_random_gemv(weight, vectors(1, 4128, torch.bfloat16), "triton", out_dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("weight_format", MAKERS)
@pytest.mark.parametrize("backend", ["triton", "torch"])
def test_every_type_of_vector(backend: str, weight_format: str, dtype: torch.dtype) -> None:
    weight = MAKERS[weight_format](130, 288, 1, DEVICE)
    check_random_gemv(weight, vectors(3, 288, dtype), backend, torch.float32)


@pytest.mark.parametrize("k", [15, 18, 4], ids=["odd", "even", "four"])
def test_bf16_rows_that_start_anywhere(k: int) -> None:
    check_exact_gemv(exact_bf16(5, k, 1), whole_vectors(2, k, 2), "triton", NARROW)


def test_division_by_the_global_scale() -> None:
    codes, scales = random_nvfp4(3, 48, 1, DEVICE).codes, random_nvfp4(3, 48, 2, DEVICE).block_scales
    weight = NVFP4Weight.from_compressed_tensors(codes, scales, torch.tensor(7.7, device=DEVICE))
    check_random_gemv(weight, vectors(1, 48, torch.bfloat16), "triton", torch.float32)


@pytest.mark.parametrize("backend", ["triton", "torch"])
@pytest.mark.parametrize("weight_format", MAKERS)
def test_zeros_give_exactly_zero(weight_format: str, backend: str) -> None:
    weight = MAKERS[weight_format](3, 96, 1, DEVICE)
    assert torch.equal(run_gemv(weight, torch.zeros(2, 96), backend, torch.float32), torch.zeros(2, 3))


def test_a_slice_of_the_vectors_need_not_be_aligned() -> None:
    weight = exact_nvfp4(3, 48, 1)
    x = whole_vectors(1, 49, 2)[0, 1:]
    check_exact_gemv(weight, x, "triton", NARROW)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("weight_format", EXACT)
@pytest.mark.parametrize("mode", MODES)
def test_every_decode_mode_sums_exactly(mode: str, weight_format: str, dtype: torch.dtype) -> None:
    if MODES.index(mode) > MODES.index(device_mode(torch.device(DEVICE))):
        pytest.skip(f"this GPU has no {mode!r}")
    config = GemvConfig(decode=mode)
    check_exact_gemv(EXACT[weight_format](130, 288, 1), whole_vectors(3, 288, 2, dtype), "triton", config)
    check_random_gemv(MAKERS[weight_format](64, 4128, 1, DEVICE), vectors(2, 4128, dtype), "triton", dtype, config)


@pytest.mark.gpu
@pytest.mark.parametrize("layout", ["linear", "swizzled"])
@pytest.mark.parametrize("mode", MODES)
def test_every_decode_mode_takes_scales_from_their_own_blocks(mode: str, layout: str) -> None:
    if MODES.index(mode) > MODES.index(device_mode(torch.device(DEVICE))):
        pytest.skip(f"this GPU has no {mode!r}")
    check_block_probes("triton", GemvConfig(decode=mode), layout)
    check_e8m0_probes("triton", GemvConfig(decode=mode), layout)


def test_results_repeat_bit_by_bit() -> None:
    weight, x = random_nvfp4(3, 272, 1, DEVICE), vectors(2, 272, torch.bfloat16)
    first, second = (run_gemv(weight, x, "triton", torch.float32) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("multiprocessors", [48, 132])
@pytest.mark.parametrize("batch", [1, 16])
def test_the_default_keeps_every_multiprocessor_busy(multiprocessors: int, batch: int) -> None:
    for n in (512, 4096, 152064):
        config = default_config(n, batch, multiprocessors)
        programs = -(-n // (config.lane_rows * config.row_groups))
        assert programs >= min(4 * multiprocessors, n)


def test_bytes() -> None:
    weight: Weight = random_nvfp4(4, 32, 1, "cpu")
    assert algorithmic_bytes(weight, 2) == 4 * 16 + 4 * 2 + 4 + 2 * (32 + 4) * 2
    assert algorithmic_bytes(weight, 2, torch.bfloat16, torch.float32) == 4 * 16 + 4 * 2 + 4 + 2 * (32 * 2 + 4 * 4)


@pytest.mark.parametrize(
    "values", [{"warps": 5}, {"row_groups": 0}, {"tile_bytes": 16}, {"tile_bytes": 4096}, {"stages": 0}], ids=str
)
def test_a_config_out_of_range_is_refused(values: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(values))}: expected .* got"):
        GemvConfig(**values)
