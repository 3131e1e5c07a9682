"""FP8, MXFP4 and the 128x4 scale layout on the CPU, bit for bit against torch and ml_dtypes."""

from host_weights import assert_same_bits, fp4_products, pick, random_bytes, swizzle
import ml_dtypes
import numpy as np
import pytest
import torch

from roofprobe.kernels.dequant_host import dequantize_fp8, dequantize_mxfp4, dequantize_nvfp4
from roofprobe.kernels.host_memory import allocate
from roofprobe.kernels.host_threads import HostConfig
from roofprobe.kernels.tables_host import e8m0_values

DTYPES = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
CONFIGS = pytest.mark.parametrize(
    "config", [HostConfig(threads=1, chunk_bytes=4096), HostConfig(stores="normal")], ids=str
)


def guarded(n: int, k: int, dtype: torch.dtype, offset: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """A poisoned output, `offset` elements past a cache line, and the memory around it."""
    whole = allocate((n * k + 128) * dtype.itemsize).view(dtype).fill_(-77)
    return whole[64 + offset : 64 + offset + n * k].view(n, k), whole


def assert_untouched_around(out: torch.Tensor, whole: torch.Tensor) -> None:
    before = out.storage_offset() - whole.storage_offset()
    assert (whole[:before] == -77).all() and (whole[before + out.numel() :] == -77).all()


def test_e8m0_by_two_oracles() -> None:
    every = np.arange(256, dtype=np.uint8)
    values = torch.from_numpy(e8m0_values())
    assert values[0] == 2.0**-127 and values[254] == 2.0**127 and values[255].isnan()
    assert_same_bits(values, torch.from_numpy(every).view(torch.float8_e8m0fnu).float())
    assert_same_bits(values, torch.from_numpy(every.view(ml_dtypes.float8_e8m0fnu).astype(np.float32)))


@DTYPES
@pytest.mark.parametrize("swizzled", [False, True], ids=["linear", "128x4"])
def test_mxfp4_every_scale_byte_and_code(swizzled: bool, dtype: torch.dtype) -> None:
    """Row r has scale byte r; each block holds every code in both halves of the byte."""
    pairs = torch.tensor([c | (15 - c) << 4 for c in range(16)], dtype=torch.uint8)
    codes = pairs.repeat(256, 1)
    scales = torch.arange(256, dtype=torch.uint8).view(256, 1)
    out, whole = guarded(256, 32, dtype)
    stored = swizzle(scales) if swizzled else scales
    assert dequantize_mxfp4(codes, stored, out, swizzled=swizzled) is out
    assert_same_bits(out, fp4_products(codes, scales, "mxfp4").to(dtype))
    assert_untouched_around(out, whole)
    if dtype == torch.float32:
        assert (out[0].abs() > 0).sum() == 28  # 2^-127 and its multiples are not flushed
        assert out[255].isnan().all()  # zeros too


@DTYPES
@CONFIGS
@pytest.mark.parametrize(
    ("n", "k", "offset"),
    [
        (1, 32, 0),  # one block
        (3, 96, 0),  # three blocks: no four columns
        (130, 32, 0),  # rows in two tiles
        (5, 96, 16),  # out half a block past a cache line
        (5, 96, 3),  # out on no boundary: normal stores
        (67, 1056, 0),  # several chunks
    ],
)
@pytest.mark.parametrize("swizzled", [False, True], ids=["linear", "128x4"])
def test_mxfp4_shapes(n: int, k: int, offset: int, swizzled: bool, config: HostConfig, dtype: torch.dtype) -> None:
    codes, scales = random_bytes((n, k // 2), n), random_bytes((n, k // 32), k)
    out, whole = guarded(n, k, dtype, offset)
    dequantize_mxfp4(codes, swizzle(scales) if swizzled else scales, out, config, swizzled)
    assert_same_bits(out, fp4_products(codes, scales, "mxfp4").to(dtype))
    assert_untouched_around(out, whole)


@CONFIGS
@pytest.mark.parametrize("divide", [False, True], ids=["multiply", "divide"])
@pytest.mark.parametrize(
    ("n", "k"),
    [
        (1, 16),  # one scale in a tile of 512
        (3, 48),  # a column of padding
        (33, 64),  # the second 32 rows, which share their lines with the first
        (128, 64),  # one tile, full
        (130, 272),  # two tiles by five, the last in each direction nearly empty
        (300, 96),
    ],
)
def test_nvfp4_in_the_swizzled_layout(n: int, k: int, divide: bool, config: HostConfig) -> None:
    codes, scales = random_bytes((n, k // 2), n), random_bytes((n, k // 16), k)
    g = torch.tensor(0.0123)
    product = fp4_products(codes, scales, "nvfp4")
    for dtype in (torch.bfloat16, torch.float32):
        out, whole = guarded(n, k, dtype)
        dequantize_nvfp4(codes, swizzle(scales), g.item(), divide, out, config, swizzled=True)
        assert_same_bits(out, (product / g if divide else product * g).to(dtype))
        assert_untouched_around(out, whole)


SCALES = [
    1.0,
    0.0123,
    -0.7,
    0.0,
    1e-40,  # subnormal
    1.1754944e-38 / 3,  # results around the smallest normal float32
    2.0**-17,  # float16 subnormals
    3.4e37,  # 448 times it overflows
    float("inf"),  # times 0 is NaN
    float("nan"),
]


@DTYPES
def test_fp8_every_byte_under_hard_scales(dtype: torch.dtype) -> None:
    values = torch.arange(256, dtype=torch.uint8).repeat(len(SCALES), 1)
    scale = torch.tensor(SCALES)
    by_torch = values.view(torch.float8_e4m3fn).float()
    by_ml_dtypes = torch.from_numpy(values.numpy().view(ml_dtypes.float8_e4m3fn).astype(np.float32))
    out = torch.full((len(SCALES), 256), 7.0, dtype=dtype)
    assert dequantize_fp8(values, scale, out) is out
    for decoded in (by_torch, by_ml_dtypes):
        assert_same_bits(out, (decoded * scale[:, None]).to(dtype))
    for row, each in enumerate(scale):  # the same as one scale for a whole tensor
        alone = torch.full((1, 256), 7.0, dtype=dtype)
        dequantize_fp8(values[:1], each, alone)
        assert_same_bits(alone, out[row : row + 1])


@DTYPES
@CONFIGS
@pytest.mark.parametrize("by_row", [False, True], ids=["per tensor", "per row"])
@pytest.mark.parametrize(
    ("n", "k", "offset"),
    [
        (1, 1, 0),
        (3, 5, 0),  # rows shorter than a vector
        (130, 17, 0),  # rows begin anywhere: normal stores
        (5, 48, 16),
        (5, 48, 3),
        (67, 1009, 0),  # several chunks that end inside rows
    ],
)
def test_fp8_shapes(n: int, k: int, offset: int, by_row: bool, config: HostConfig, dtype: torch.dtype) -> None:
    values = random_bytes((n, k), n)
    scale = torch.rand(n, generator=torch.Generator().manual_seed(k)) if by_row else torch.tensor(0.37)
    out, whole = guarded(n, k, dtype, offset)
    dequantize_fp8(values, scale, out, config)
    decoded = values.view(torch.float8_e4m3fn).float()
    assert_same_bits(out, (decoded * (scale[:, None] if by_row else scale)).to(dtype))
    assert_untouched_around(out, whole)


def u8(*shape: int) -> torch.Tensor:
    return pick([0], shape, 0)


@pytest.mark.parametrize(
    ("codes", "scales", "swizzled", "message"),
    [
        (u8(2, 24), u8(2, 1), False, "codes: expected K a multiple of the block, 32, got K = 48"),
        (u8(2, 16), u8(2, 2), False, r"scale_bytes: expected shape \[2, 1\], got \[2, 2\]"),
        (u8(2, 16), u8(2, 1), True, r"scale_bytes: expected shape \[512\], got \[2, 1\]"),
        (u8(129, 16), u8(512), True, r"scale_bytes: expected shape \[1024\], got \[512\]"),
        (u8(2, 16), u8(2, 1).float(), False, "scale_bytes: expected torch.uint8, got torch.float32"),
    ],
)
def test_wrong_mxfp4_is_named(codes: torch.Tensor, scales: torch.Tensor, swizzled: bool, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dequantize_mxfp4(codes, scales, torch.empty(codes.shape[0], 2 * codes.shape[1]), swizzled=swizzled)


@pytest.mark.parametrize(
    ("values", "scale", "message"),
    [
        (u8(2, 3).float(), torch.ones(2), "values_bytes: expected torch.uint8, got torch.float32"),
        (u8(2, 3), torch.ones(3), r"scale: expected shape \[2\], got \[3\]"),
        (u8(2, 3), torch.ones(2, 1), r"scale: expected shape \[2\], got \[2, 1\]"),
        (u8(2, 3), torch.ones(()).double(), "scale: expected torch.float32, got torch.float64"),
    ],
)
def test_wrong_fp8_is_named(values: torch.Tensor, scale: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dequantize_fp8(values, scale, torch.empty(2, 3))
