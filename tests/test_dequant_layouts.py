"""MXFP4's scale bytes and the 128x4 layout, in the interpreter and in the eager reference, against plain arithmetic."""

from __future__ import annotations

from typing import Any

from numerics import DEVICE, assert_same_values
import numpy as np
import oracles
import pytest
import torch

from roofprobe.kernels.dequant import dequantize
from roofprobe.kernels.formats import MXFP4Weight, NVFP4Weight


def random_bytes(*shape: int, seed: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def laid_out(scales: torch.Tensor, fill: int) -> torch.Tensor:
    """The 128x4 layout byte by byte, as the formula has it, `fill` in the padding."""
    n, columns = scales.shape
    groups = -(-columns // 4)
    flat = torch.full((-(-n // 128) * groups * 512,), fill, dtype=torch.uint8)
    r, c = torch.meshgrid(torch.arange(n), torch.arange(columns), indexing="ij")
    flat[(r // 128 * groups + c // 4) * 512 + r % 32 * 16 + r % 128 // 32 * 4 + c % 4] = scales
    return flat


def e2m1(codes: torch.Tensor) -> Any:
    return oracles.e2m1_by_arithmetic(oracles.codes_by_k(codes.numpy()))


@pytest.mark.parametrize("layout", ["linear", "swizzled"])
@pytest.mark.parametrize("backend", ["triton", "torch"])
def test_mxfp4_under_every_scale_byte(backend: str, layout: str) -> None:
    """256 rows of three blocks: byte r in row r's first, other bytes beside it; subnormals at 0x00, NaN at 0xFF."""
    codes = random_bytes(256, 48, seed=1)
    scales = torch.cat([torch.arange(256, dtype=torch.uint8).view(256, 1), random_bytes(256, 2, seed=2)], dim=1)
    with np.errstate(over="ignore"):
        values = np.exp2(scales.numpy().astype(np.float64) - 127)
        values[scales.numpy() == 0xFF] = np.nan
        expected = torch.from_numpy((e2m1(codes) * np.repeat(values, 32, axis=1)).astype(np.float32))
    stored = laid_out(scales, 0xFF) if layout == "swizzled" else scales
    weight = MXFP4Weight(codes.to(DEVICE), stored.to(DEVICE), (256, 96), layout)
    assert_same_values(dequantize(weight, torch.float32, backend=backend), expected)


@pytest.mark.parametrize("backend", ["triton", "torch"])
@pytest.mark.parametrize(("n", "k"), [(1, 16), (130, 80)], ids=["one row", "padding in rows and in columns"])
def test_nvfp4_in_the_128x4_layout(n: int, k: int, backend: str) -> None:
    codes, scales = random_bytes(n, k // 2, seed=3), random_bytes(n, k // 16, seed=4)
    products = e2m1(codes) * np.repeat(oracles.e4m3_by_torch(scales.numpy()), 16, axis=1)
    stored = laid_out(scales, 0x7F).view(torch.float8_e4m3fn)
    one = torch.tensor(1.0, device=DEVICE)
    weight = NVFP4Weight(codes.to(DEVICE), stored.to(DEVICE), one, (n, k), "swizzled")
    assert_same_values(dequantize(weight, torch.float32, backend=backend), torch.from_numpy(products))
