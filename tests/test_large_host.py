"""Weights past 2^31 elements, and past 2^31 bytes, on the CPU: an index of 32 bits anywhere would show.

The memory is anonymous and never written but at the far end: reading the rest maps the system's one page of zeros.
"""

from collections.abc import Iterator
import ctypes
import gc
import mmap
import os
from typing import Literal

from host_weights import assert_same_bits, fp4_products, random_bytes, swizzle
import psutil
import pytest
import torch

from roofprobe.kernels.dequant_host import dequantize_fp8, dequantize_nvfp4
from roofprobe.kernels.gemv_host import gemv_fp8, gemv_mxfp4, gemv_nvfp4
from roofprobe.kernels.grouped_gemv_host import grouped_gemv_fp8
from roofprobe.kernels.host_memory import allocate
from roofprobe.kernels.host_threads import HostConfig

K = 1 << 16
LAST = 3  # rows that are not zero


@pytest.fixture(autouse=True)
def room() -> Iterator[None]:
    """For addresses that a system might count though nothing is written there."""
    needed = 5 << 30
    if psutil.virtual_memory().available < needed:
        pytest.skip(f"needs {needed / 2**30:.0f} GiB of available memory")
    yield
    gc.collect()


def expected(products: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """x has one 1, in the last place: each sum is one product, exactly."""
    return (products * x).sum(1)


def one_at_the_end(k: int) -> torch.Tensor:
    x = torch.zeros(1, k)
    x[0, -1] = 1.0
    return x


def test_fp8_gemv() -> None:
    n = 2**31 // K + LAST
    values = allocate(n * K).view(n, K)
    values[-LAST:, -1] = torch.tensor([0x38, 0x40, 0xC4], dtype=torch.uint8)  # 1, 2, -3
    out = torch.full((1, n), float("nan"))
    gemv_fp8(values, torch.arange(n) % 7 + 1.0, one_at_the_end(K), out)
    assert (out[0, :-LAST] == 0).all()
    assert torch.equal(out[0, -LAST:], torch.tensor([1.0, 2.0, -3.0]) * ((torch.arange(n) % 7) + 1)[-LAST:])


@pytest.mark.parametrize("layout", ["linear", "128x4"])
@pytest.mark.parametrize("block", [16, 32], ids=["nvfp4", "mxfp4"])
def test_fp4_gemv(block: int, layout: str) -> None:
    """2^32 weights and more: the codes' bytes are past 2^31 too."""
    weight_format = {16: "nvfp4", 32: "mxfp4"}[block]
    n = 2**32 // K + LAST
    codes = allocate(n * K // 2).view(n, K // 2)
    codes[-LAST:] = random_bytes((LAST, K // 2), 1)
    last_scales = random_bytes((n % 128, K // block), 2) & 0x7F  # the whole last tile of rows, NaN among them
    if layout == "128x4":
        scales = allocate(-(-n // 128) * 128 * K // block)
        scales[-128 * K // block :] = swizzle(last_scales)
    else:
        scales = allocate(n * K // block).view(n, K // block)
        scales[-LAST:] = last_scales[-LAST:]
    x, out = one_at_the_end(K), torch.full((1, n), float("nan"))
    if block == 16:
        gemv_nvfp4(codes, scales, 1.0, False, x, out, swizzled=layout == "128x4")
    else:
        gemv_mxfp4(codes, scales, x, out, swizzled=layout == "128x4")
    want = expected(fp4_products(codes[-LAST:], last_scales[-LAST:], weight_format), x)
    assert_same_bits(out[0, -LAST:] + 0.0, want + 0.0)
    assert (out[0, :-LAST] == 0).all()


def test_grouped_gemv() -> None:
    experts, n, k = 2**31 // (1 << 22) + 1, 64, 1 << 16
    values = allocate(experts * n * k).view(experts, n, k)
    values[-1, :, -1] = 0x40  # 2
    ids = torch.tensor([[experts - 1, 0], [1, experts - 1]], dtype=torch.int32)
    out = torch.full((2, 2, n), float("nan"))
    grouped_gemv_fp8(values, torch.full((experts,), 0.5), one_at_the_end(k).repeat(2, 1), ids, out)
    assert torch.equal(out, (ids == experts - 1).float()[..., None].expand(2, 2, n))


def folded(n_bytes: int, alone: int) -> torch.Tensor:
    """uint8 [n_bytes] whose last `alone` bytes are memory of their own, while all others are the same 64 MiB again
    and again: as many addresses as anyone wants to write to."""
    window = 64 << 20
    if n_bytes % window != alone or alone % mmap.PAGESIZE or not hasattr(os, "memfd_create"):
        pytest.skip("needs Linux and pages of 128 KiB or less")
    tensor = allocate(n_bytes)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    fixed, file = 0x10, os.memfd_create("folded")
    os.ftruncate(file, window + alone)
    for start in range(0, n_bytes, window):
        length, offset = (window, 0) if start + window <= n_bytes else (alone, window)
        address = tensor.data_ptr() + start
        where = (ctypes.c_void_p(address), ctypes.c_size_t(length))
        flags = (mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED | fixed)
        assert libc.mmap(*where, *flags, file, ctypes.c_long(offset)) == address
    os.close(file)
    return tensor


def test_fp8_dequantization() -> None:
    n, row_bytes = 2**31 // K + 1, 2 * K
    values = allocate(n * K).view(n, K)
    values[-1] = random_bytes((K,), 3)
    out = folded(n * row_bytes, row_bytes).view(torch.bfloat16).view(n, K)
    dequantize_fp8(values, torch.tensor(0.37), out)
    assert_same_bits(out[-1], (values[-1].view(torch.float8_e4m3fn).float() * 0.37).bfloat16())
    assert not out[: (64 << 20) // row_bytes].any()  # nothing of the last row at a wrapped address


@pytest.mark.parametrize("stores", ["non-temporal", "normal"])
def test_nvfp4_dequantization(stores: Literal["non-temporal", "normal"]) -> None:
    n, row_bytes = 2**31 // K + 1, 2 * K
    codes, scales = allocate(n * K // 2).view(n, K // 2), allocate(n * K // 16).view(n, K // 16)
    codes[-1], scales[-1] = random_bytes((K // 2,), 3), random_bytes((K // 16,), 4)
    out = folded(n * row_bytes, row_bytes).view(torch.bfloat16).view(n, K)
    dequantize_nvfp4(codes, scales, 0.37, False, out, HostConfig(stores=stores))
    assert_same_bits(out[-1], (fp4_products(codes[-1], scales[-1], "nvfp4") * 0.37).bfloat16())
    assert not out[: (64 << 20) // row_bytes].any()
