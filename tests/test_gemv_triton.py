"""GEMV by Triton and the eager reference: exact sums, every scale byte from its own block, gamma_d on random data.

A program of the interpreter costs some 100 ms at batch 16, so each gate has few shapes, each for a reason.
"""

from numerics import (
    DEVICE,
    check_block_probes,
    check_exact_gemv,
    check_random_gemv,
    exact_bf16,
    exact_nvfp4,
    run_gemv,
    whole_vectors,
)
import pytest
import torch

from roofprobe.kernels.formats import NVFP4Weight, Weight, random_bf16, random_nvfp4
from roofprobe.kernels.gemv import algorithmic_bytes
from roofprobe.kernels.gemv_triton import GemvConfig, default_config

MAKERS = {"bf16": random_bf16, "nvfp4": random_nvfp4}
EXACT = {"bf16": exact_bf16, "nvfp4": exact_nvfp4}
NARROW = GemvConfig(warps=1, row_groups=2, tile_bytes=32)  # tiles of 16 rows by 32 bytes
SHAPES = {
    "one row, one block": (1, 16),
    "rows that no group divides": (130, 48),
    "several whole tiles and a tail": (3, 272),
}


def vectors(batch: int, k: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(batch, k, generator=torch.Generator().manual_seed(7)).to(dtype)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("weight_format", EXACT)
@pytest.mark.parametrize("backend", ["triton", "torch"])
def test_exact_sums(backend: str, weight_format: str, shape: tuple[int, int]) -> None:
    config = NARROW if backend == "triton" else None
    check_exact_gemv(EXACT[weight_format](*shape, 1), whole_vectors(1, shape[1], 2), backend, config)


@pytest.mark.parametrize("batch", [3, 16])
@pytest.mark.parametrize("weight_format", EXACT)
def test_exact_sums_of_a_batch(weight_format: str, batch: int) -> None:
    check_exact_gemv(EXACT[weight_format](3, 48, 1), whole_vectors(batch, 48, 2), "triton", NARROW)


@pytest.mark.parametrize("backend", ["triton", "torch"])
def test_every_scale_byte_comes_from_its_own_block(backend: str) -> None:
    check_block_probes(backend)


@pytest.mark.parametrize("out_dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("weight_format", MAKERS)
def test_random_data(weight_format: str, out_dtype: torch.dtype) -> None:
    weight = MAKERS[weight_format](3, 4112, 1, DEVICE)  # default config: the loop turns often and ends in a tail
    check_random_gemv(weight, vectors(1, 4112, torch.bfloat16), "triton", out_dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("weight_format", MAKERS)
@pytest.mark.parametrize("backend", ["triton", "torch"])
def test_every_type_of_vector(backend: str, weight_format: str, dtype: torch.dtype) -> None:
    weight = MAKERS[weight_format](130, 272, 1, DEVICE)
    check_random_gemv(weight, vectors(3, 272, dtype), backend, torch.float32)


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
    weight = MAKERS[weight_format](3, 48, 1, DEVICE)
    assert torch.equal(run_gemv(weight, torch.zeros(2, 48), backend, torch.float32), torch.zeros(2, 3))


def test_a_slice_of_the_vectors_need_not_be_aligned() -> None:
    weight = exact_nvfp4(3, 48, 1)
    x = whole_vectors(1, 49, 2)[0, 1:]
    check_exact_gemv(weight, x, "triton", NARROW)


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
