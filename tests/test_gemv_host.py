"""The CPU GEMV kernels: sums that are exact, each block under every scale byte, random data inside its error bound."""

import math

import numpy as np
import pytest
import torch

from roofprobe.kernels.dequant_host import dequantize_nvfp4
from roofprobe.kernels.gemv_host import gemv_bf16, gemv_nvfp4
from roofprobe.kernels.gemv_rows_host import RESIDENT, TILE
from roofprobe.kernels.host_threads import HostConfig, allowed_cpus

BATCHES = [1, 2, 3, 16]  # alone; one pair; a pair and a padded one; the most
SHAPES = [
    (1, 16),  # one block, one row
    (3, 48),  # no step of 64 fits, and one vector of 16 is left over 32
    (5, 1008),
    (2, TILE + 16),  # one block in the second tile
    (6, RESIDENT + 32),  # four rows together, then two alone
    (130, 256),  # several chunks a thread
]
ODD_K = [(1, 1), (3, 17), (2, TILE + 65)]  # bfloat16 takes any K


def random(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def random_nvfp4(n: int, k: int, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 256, (n, k // 2), dtype=torch.uint8, generator=generator)
    scales = torch.randint(0, 127, (n, k // 16), dtype=torch.uint8, generator=generator)  # finite
    return codes, scales | torch.randint(0, 2, scales.shape, dtype=torch.uint8, generator=generator) << 7


def decoded(codes: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """q * s, exact: this decoder has its own tests against other people's."""
    out = torch.empty(codes.shape[0], 2 * codes.shape[1])
    return dequantize_nvfp4(codes, scales, 1.0, False, out)


def poisoned(batch: int, n: int) -> torch.Tensor:
    return torch.full((batch, n), float("nan"))


def assert_within_bound(got: torch.Tensor, w: torch.Tensor, x: torch.Tensor, g: float, divide: bool = False) -> None:
    """|y - sum| <= gamma_d * sum |w x|, with the scale's one rounding inside d = ceil(K / 32) + 16."""
    d = math.ceil(w.shape[1] / 32) + 16
    gamma = d * 2**-24 / (1 - d * 2**-24)
    g = float(np.float32(g))
    factor = 1 / g if divide else g
    exact = x.double() @ w.double().T * factor
    tolerance = gamma * (x.double().abs() @ w.double().abs().T) * abs(factor)
    assert ((exact - tolerance).float() <= got).all() and (got <= (exact + tolerance).float()).all()


@pytest.mark.parametrize("x_dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize(("n", "k"), SHAPES + ODD_K)
def test_bf16_on_random_data(n: int, k: int, batch: int, x_dtype: torch.dtype) -> None:
    w, x = random((n, k), 1).bfloat16(), random((batch, k), 2).to(x_dtype)
    out = poisoned(batch, n)
    assert gemv_bf16(w, x, out) is out
    assert_within_bound(out, w, x, 1.0)


@pytest.mark.parametrize("divide", [False, True], ids=["multiply", "divide"])
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize(("n", "k"), SHAPES)
def test_nvfp4_on_random_data(n: int, k: int, batch: int, divide: bool) -> None:
    codes, scales = random_nvfp4(n, k)
    x, out = random((batch, k), 2), poisoned(batch, n)
    assert gemv_nvfp4(codes, scales, 0.0123, divide, x, out) is out
    assert_within_bound(out, decoded(codes, scales), x, 0.0123, divide)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize(("n", "k"), SHAPES + ODD_K)
def test_exact_sums_of_integers(n: int, k: int, batch: int) -> None:
    """Every partial sum is an integer below 2^24: any order of summing gives these bits."""
    generator = torch.Generator().manual_seed(k)
    w = torch.randint(-8, 9, (n, k), generator=generator)
    x = torch.randint(-8, 9, (batch, k), generator=generator)
    out = poisoned(batch, n)
    gemv_bf16(w.bfloat16(), x.bfloat16(), out)
    assert torch.equal(out, (x @ w.T).float())
    if k % 16 == 0:
        codes = torch.randint(0, 256, (n, k // 2), dtype=torch.uint8, generator=generator)
        scales = torch.full((n, k // 16), 0x40, dtype=torch.uint8)  # 2: then every weight is an integer up to 12
        gemv_nvfp4(codes, scales, 0.25, False, x.float(), out)
        assert torch.equal(out, (x @ decoded(codes, scales).long().T).float() * 0.25)


@pytest.mark.parametrize("batch", [1, 2])
def test_each_block_alone_with_every_scale_byte(batch: int) -> None:
    """x is one power of two in one place, so y is one weight times it, exactly: NaN scales and -0 included."""
    n, k = 256, 64
    codes = random_nvfp4(n, k)[0]
    for block in range(k // 16):
        scales = torch.full((n, k // 16), 0x38, dtype=torch.uint8)
        scales[:, block] = torch.arange(256, dtype=torch.uint8)
        w = decoded(codes, scales)
        for place in (block * 16, block * 16 + 7, block * 16 + 15):
            x = torch.zeros(batch, k)
            x[-1, place] = 4.0
            out = poisoned(batch, n)
            gemv_nvfp4(codes, scales, 0.5, False, x, out)
            want = torch.where(w[:, block * 16].isnan(), torch.nan, w[:, place] * 2)
            assert torch.equal(out[-1].nan_to_num(nan=1e30), want.nan_to_num(nan=1e30)), (block, place)


def test_zero_products_sum_to_zero() -> None:
    codes, scales = torch.full((3, 24), 0x80, dtype=torch.uint8), torch.full((3, 3), 0x7E, dtype=torch.uint8)
    out = poisoned(2, 3)
    gemv_nvfp4(codes, scales, 3.0, True, torch.ones(2, 48), out)  # codes 0 and -0
    assert (out == 0).all()


@pytest.mark.parametrize("offset", [1, 3], ids=lambda offset: f"{offset} elements off")
def test_unaligned_tensors(offset: int) -> None:
    n, k, batch = 7, 80, 3
    w = random((n * k + offset,), 1).bfloat16()[offset:].view(n, k)
    x = random((batch * k + offset,), 2)[offset:].view(batch, k)
    whole = torch.full((batch * n + 2 * offset,), -77.0)
    out = whole[offset:-offset].view(batch, n)
    gemv_bf16(w, x, out)
    assert_within_bound(out, w, x, 1.0)
    assert (whole[:offset] == -77).all() and (whole[-offset:] == -77).all()


@pytest.mark.skipif(len(allowed_cpus()) < 2, reason="this process may use one CPU only")
@pytest.mark.parametrize("batch", [1, 3])
def test_threads_give_the_same_bits(batch: int) -> None:
    w, x = random((301, 512), 1).bfloat16(), random((batch, 512), 2)
    one, two = poisoned(batch, 301), poisoned(batch, 301)
    gemv_bf16(w, x, one, HostConfig(threads=1))
    gemv_bf16(w, x, two, HostConfig(threads=2, chunk_bytes=4096))
    assert torch.equal(one, two)


W, X, Y = torch.ones(2, 4).bfloat16(), torch.ones(1, 4), torch.ones(1, 2)


@pytest.mark.parametrize(
    ("weight", "x", "out", "message"),
    [
        (W.float(), X, Y, "weight: expected torch.bfloat16, got torch.float32"),
        (torch.ones(4, 2).bfloat16().T, X, Y, r"weight: expected a contiguous tensor, got strides \[1, 2\]"),
        (W, X.half(), Y, "x: expected torch.bfloat16 or torch.float32, got torch.float16"),
        (W, torch.ones(1, 5), Y, r"x: expected shape \[any, 4\], got \[1, 5\]"),
        (W, torch.ones(4), Y, r"x: expected shape \[any, 4\], got \[4\]"),
        (W, torch.ones(17, 4), Y, "x: expected 1 to 16 vectors, got 17"),
        (W, X, Y.T.contiguous(), r"out: expected shape \[1, 2\], got \[2, 1\]"),
        (W, X, Y.bfloat16(), "out: expected torch.float32, got torch.bfloat16"),
    ],
)
def test_wrong_arguments_are_named(weight: torch.Tensor, x: torch.Tensor, out: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gemv_bf16(weight, x, out)


def test_wrong_block_is_named() -> None:
    codes, scales = torch.ones(1, 4, dtype=torch.uint8), torch.ones(1, 1, dtype=torch.uint8)
    with pytest.raises(ValueError, match="codes: expected K a multiple of the block, 16, got K = 8"):
        gemv_nvfp4(codes, scales, 1.0, False, torch.ones(1, 8), torch.ones(1, 1))
