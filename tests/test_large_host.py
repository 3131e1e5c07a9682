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

from roofprobe.kernels.dequant_host import dequantize_fp8, dequantize_mxfp4, dequantize_nvfp4
from roofprobe.kernels.gemv_host import gemv_bf16, gemv_fp8, gemv_mxfp4, gemv_nvfp4
from roofprobe.kernels.grouped_gemv_host import (
    grouped_gemv_bf16,
    grouped_gemv_fp8,
    grouped_gemv_mxfp4,
    grouped_gemv_nvfp4,
)
from roofprobe.kernels.host_memory import allocate
from roofprobe.kernels.host_threads import HostConfig

K = 1 << 16
LAST = 3  # rows that are not zero
FORMATS = {16: "nvfp4", 32: "mxfp4"}  # by their block


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


@pytest.mark.parametrize("batch", [1, 3], ids=["one vector", "decoded for three"])
def test_bf16_gemv(batch: int) -> None:
    n = 2**31 // K + LAST
    weight = allocate(2 * n * K).view(torch.bfloat16).view(n, K)
    weight[-LAST:, -1] = torch.tensor([1.0, 2.0, -3.0])
    out = torch.full((batch, n), float("nan"))
    gemv_bf16(weight, one_at_the_end(K).expand(batch, K).contiguous(), out)
    assert (out[:, :-LAST] == 0).all()
    assert torch.equal(out[:, -LAST:], torch.tensor([1.0, 2.0, -3.0]).expand(batch, LAST))


@pytest.mark.parametrize("batch", [1, 3], ids=["one vector", "decoded for three"])
def test_fp8_gemv(batch: int) -> None:
    n = 2**31 // K + LAST
    values = allocate(n * K).view(n, K)
    values[-LAST:, -1] = torch.tensor([0x38, 0x40, 0xC4], dtype=torch.uint8)  # 1, 2, -3
    out = torch.full((batch, n), float("nan"))
    gemv_fp8(values, torch.arange(n) % 7 + 1.0, one_at_the_end(K).expand(batch, K).contiguous(), out)
    assert (out[:, :-LAST] == 0).all()
    want = torch.tensor([1.0, 2.0, -3.0]) * ((torch.arange(n) % 7) + 1)[-LAST:]
    assert torch.equal(out[:, -LAST:], want.expand(batch, LAST))


def fp4_weight(n: int, block: int, layout: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Codes [n, K/2], scales in the layout, and what the last LAST rows mean, which alone are not zero."""
    codes = allocate(n * K // 2).view(n, K // 2)
    codes[-LAST:] = random_bytes((LAST, K // 2), 1)
    last_scales = random_bytes((n % 128, K // block), 2) & 0x7F  # the whole last tile of rows, NaN among them
    if layout == "128x4":
        scales = allocate(-(-n // 128) * 128 * K // block)
        scales[-128 * K // block :] = swizzle(last_scales)
    else:
        scales = allocate(n * K // block).view(n, K // block)
        scales[-LAST:] = last_scales[-LAST:]
    return codes, scales, fp4_products(codes[-LAST:], last_scales[-LAST:], FORMATS[block])


@pytest.mark.parametrize("layout", ["linear", "128x4"])
@pytest.mark.parametrize("block", FORMATS, ids=FORMATS.values())
def test_fp4_gemv(block: int, layout: str) -> None:
    """2^32 weights and more: the codes' bytes are past 2^31 too."""
    codes, scales, products = fp4_weight(2**32 // K + LAST, block, layout)
    n = codes.shape[0]
    x, out = one_at_the_end(K), torch.full((1, n), float("nan"))
    if block == 16:
        gemv_nvfp4(codes, scales, 1.0, False, x, out, swizzled=layout == "128x4")
    else:
        gemv_mxfp4(codes, scales, x, out, swizzled=layout == "128x4")
    assert_same_bits(out[0, -LAST:] + 0.0, expected(products, x) + 0.0)
    assert (out[0, :-LAST] == 0).all()


@pytest.mark.parametrize("kind", ["bf16", "fp8", "nvfp4", "nvfp4 128x4", "mxfp4", "mxfp4 128x4"])
def test_grouped_gemv(kind: str) -> None:
    """The last expert lies past 2^31 weights (FP4: 2^32, so that its codes' bytes do too); all others are zero."""
    weight_format, _, layout = kind.partition(" ")
    fp4 = weight_format.endswith("fp4")
    n, k = 64, K
    experts = 2 ** (32 if fp4 else 31) // (n * k) + 1
    values = allocate(experts * n * k * {"bf16": 16, "fp8": 8}.get(weight_format, 4) // 8)
    ids = torch.tensor([[experts - 1, 0], [1, experts - 1]], dtype=torch.int32)
    x, out = one_at_the_end(k).repeat(2, 1), torch.full((2, 2, n), float("nan"))
    halves = torch.full((experts,), 0.5)
    if weight_format == "bf16":
        weight = values.view(torch.bfloat16).view(experts, n, k)
        weight[-1, :, -1] = 1.0
        grouped_gemv_bf16(weight, x, ids, out)
    elif weight_format == "fp8":
        values = values.view(experts, n, k)
        values[-1, :, -1] = 0x40  # 2
        grouped_gemv_fp8(values, halves, x, ids, out)
    else:
        codes = values.view(experts, n, k // 2)
        codes[-1, :, -1] = 0x40  # 2, in the high nibble: the odd k
        columns = k // (16 if weight_format == "nvfp4" else 32)
        scales = allocate(experts * (128 if layout else n) * columns)
        scales = scales.view(experts, -1) if layout else scales.view(experts, n, columns)
        scales[-1] = 0x38 if weight_format == "nvfp4" else 126  # 1 before a global scale of 0.5, and 0.5
        if weight_format == "nvfp4":
            grouped_gemv_nvfp4(codes, scales, halves, False, x, ids, out, swizzled=bool(layout))
        else:
            grouped_gemv_mxfp4(codes, scales, x, ids, out, swizzled=bool(layout))
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


@pytest.mark.parametrize(
    ("block", "layout", "stores"),
    [
        (16, "linear", "non-temporal"),
        (16, "linear", "normal"),
        (16, "128x4", "non-temporal"),
        (32, "linear", "non-temporal"),
        (32, "128x4", "non-temporal"),
    ],
)
def test_fp4_dequantization(block: int, layout: str, stores: Literal["non-temporal", "normal"]) -> None:
    n, row_bytes = 2**31 // K + LAST, 2 * K
    codes, scales, products = fp4_weight(n, block, layout)
    out = folded(n * row_bytes, LAST * row_bytes).view(torch.bfloat16).view(n, K)
    config, swizzled = HostConfig(stores=stores), layout == "128x4"
    if block == 16:
        dequantize_nvfp4(codes, scales, 0.37, False, out, config, swizzled)
        products = products * 0.37
    else:
        dequantize_mxfp4(codes, scales, out, config, swizzled)
    assert_same_bits(out[-LAST:], products.bfloat16())
    assert not out[: (64 << 20) // row_bytes].any()  # nothing of the last rows at a wrapped address
