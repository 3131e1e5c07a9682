"""The checks behind `verified` see every kind of damage, and accept what a right kernel may give."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from roofprobe.kernels import dequant_check, gemv_check, rows
from roofprobe.kernels.dequant import dequantize
from roofprobe.kernels.formats import (
    FORMAT_NAMES,
    NVFP4Weight,
    QuantizedWeight,
    Weight,
    random_fp8,
    random_mxfp4,
    random_nvfp4,
    random_weight,
)
from roofprobe.kernels.gemv import gemv

N, K = 96, 288  # K = 288 is divided by MXFP4's block of 32 and by no larger power of two
SWIZZLED = {"nvfp4 swizzled": random_nvfp4, "mxfp4 swizzled": random_mxfp4}


@pytest.fixture(params=[*FORMAT_NAMES, "fp8 per row", *SWIZZLED])
def weight(request: pytest.FixtureRequest) -> Weight:
    if request.param == "fp8 per row":
        return random_fp8(N, K, 3, "cpu", per_row=True)
    if request.param in SWIZZLED:
        return SWIZZLED[request.param](N, K, 3, "cpu", "swizzled")
    return random_weight(request.param, N, K, 3, "cpu")


@pytest.fixture(params=["nvfp4", "mxfp4", "fp8"])
def quantized(request: pytest.FixtureRequest) -> QuantizedWeight:
    weight = random_weight(request.param, N, K, 5, "cpu")
    assert not isinstance(weight, torch.Tensor)
    return weight


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(3, K, generator=torch.Generator().manual_seed(1)).to(torch.bfloat16)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_a_right_gemv_passes(weight: Weight, x: torch.Tensor, dtype: torch.dtype) -> None:
    y = gemv(weight, x, out_dtype=dtype, backend="torch")
    assert gemv_check.count_wrong(weight, x, y) == 0


def swapped_rows(y: torch.Tensor) -> None:
    y[:, [4, 5]] = y[:, [5, 4]]


def two_ulps(y: torch.Tensor) -> None:
    up = torch.tensor(float("inf"), dtype=y.dtype)
    y[1, 7] = torch.nextafter(torch.nextafter(y[1, 7], up), up)


def stale(y: torch.Tensor) -> None:
    y[0, 9] = float("nan")


def zeroed(y: torch.Tensor) -> None:
    y[2, 95] = 0


@pytest.mark.parametrize(("damage", "wrong"), [(swapped_rows, 6), (stale, 1), (zeroed, 1)])
def test_a_damaged_gemv_is_counted(
    weight: Weight, x: torch.Tensor, damage: Callable[[torch.Tensor], None], wrong: int
) -> None:
    y = gemv(weight, x, out_dtype=torch.float32, backend="torch")
    damage(y)
    assert gemv_check.count_wrong(weight, x, y) == wrong


def test_two_ulps_of_bfloat16_are_counted(weight: Weight, x: torch.Tensor) -> None:
    y = gemv(weight, x, out_dtype=torch.bfloat16, backend="torch")
    two_ulps(y)
    assert gemv_check.count_wrong(weight, x, y) == 1


def test_a_missing_block_is_counted(weight: Weight, x: torch.Tensor) -> None:
    shorter = x.clone()
    shorter[:, -16:] = 0  # as a kernel that forgets the last block would see it
    y = gemv(weight, shorter, out_dtype=torch.float32, backend="torch")
    assert gemv_check.count_wrong(weight, x, y) > 0.9 * y.numel()


def test_where_the_sum_is_exactly_zero_only_zero_passes(weight: Weight) -> None:
    x = torch.zeros(1, K, dtype=torch.bfloat16)
    y = gemv(weight, x, out_dtype=torch.float32, backend="torch")
    assert gemv_check.count_wrong(weight, x, y) == 0
    y[0, 0] = 1e-30
    assert gemv_check.count_wrong(weight, x, y) == 1


def test_a_dividing_global_scale_is_divided_by() -> None:
    made = random_nvfp4(N, K, seed=3, device="cpu")
    divides = NVFP4Weight(made.codes, made.block_scales, made.global_scale, (N, K), global_scale_use="divide")
    x = torch.ones(K, dtype=torch.bfloat16)
    y = gemv(divides, x, out_dtype=torch.float32, backend="torch")
    assert gemv_check.count_wrong(divides, x, y) == 0
    assert gemv_check.count_wrong(made, x, y) > 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_every_element_of_a_dequantization_counts(quantized: QuantizedWeight, dtype: torch.dtype) -> None:
    weight = quantized
    out = dequantize(weight, dtype, backend="torch")
    assert dequant_check.count_wrong(weight, out) == 0
    out[3, 17] = torch.nextafter(out[3, 17], torch.tensor(float("inf"), dtype=dtype))
    out[95, 287] = float("nan")
    assert dequant_check.count_wrong(weight, out) == 2
    out[0, :] = out[0, :].roll(1)  # a shifted row: nearly every weight differs from its neighbour
    assert dequant_check.count_wrong(weight, out) > 0.8 * K


def test_the_sign_of_zero_counts_and_a_nan_payload_does_not() -> None:
    weight = random_nvfp4(N, K, seed=5, device="cpu")
    weight.codes[0, 0] = 0x08  # first weight -0, second +0
    weight.block_scale_bytes[1, 0] = 0x7F  # NaN
    out = dequantize(weight, torch.float32, backend="torch")
    out[1, :16] = -out[1, :16]
    assert dequant_check.count_wrong(weight, out) == 0
    out[0, 0] = 0.0
    assert dequant_check.count_wrong(weight, out) == 1


def test_chunks_cover_every_row_once(weight: Weight) -> None:
    seen = [row for part, _ in rows.row_chunks(weight, elements=5 * K) for row in range(part.start, part.stop)]
    assert seen == list(range(N))
