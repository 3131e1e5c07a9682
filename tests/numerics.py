"""When a kernel is right: the gates that every backend's tests share, and the one table of tolerances."""

from dataclasses import replace
import math

import numpy as np
from numpy.typing import NDArray
import oracles
import torch

from roofprobe.kernels.dequant import dequantize
from roofprobe.kernels.formats import (
    FP8Weight,
    MXFP4Weight,
    NVFP4Weight,
    QuantizedWeight,
    Weight,
    format_name,
    random_fp8,
    random_mxfp4,
    random_nvfp4,
)
from roofprobe.kernels.gemv import gemv

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
UNIT_ROUNDOFF = 2.0**-24
SUM_DEPTH = dict.fromkeys(("bf16", "fp8", "nvfp4", "mxfp4"), (32, 16))
"""Format -> (accumulators a row, other roundings on a product's path)."""


def gamma(weight_format: str, k: int) -> float:
    """The factor of sum |w x| that a float32 sum of K products may be off by: d u / (1 - d u)."""
    accumulators, others = SUM_DEPTH[weight_format]
    depth = math.ceil(k / accumulators) + others
    return depth * UNIT_ROUNDOFF / (1 - depth * UNIT_ROUNDOFF)


def assert_same_values(actual: torch.Tensor, expected: torch.Tensor) -> None:
    """Bit for bit, sign of zero included; NaN matches NaN whatever its payload."""
    integers = {2: torch.int16, 4: torch.int32}[actual.element_size()]
    assert actual.dtype == expected.dtype and actual.shape == expected.shape
    actual, expected = actual.cpu(), expected.cpu()
    both_nan = actual.isnan() & expected.isnan()
    differs = (actual.contiguous().view(integers) != expected.contiguous().view(integers)) & ~both_nan
    at = differs.nonzero()
    assert not len(at), f"{len(at)} differ, first at {at[0].tolist()}: {actual[differs][0]} for {expected[differs][0]}"


def every_code_and_scale(global_scale: float, use: str) -> NVFP4Weight:
    """[256, 16]: row r has scale byte r and all sixteen codes."""
    pairs = [2 * i + 16 * (2 * i + 1) for i in range(8)]
    codes = torch.tensor([pairs] * 256, dtype=torch.uint8)
    scales = torch.arange(256, dtype=torch.uint8).view(256, 1).view(torch.float8_e4m3fn)
    return make_nvfp4(codes, scales, global_scale, use)


def make_nvfp4(codes: torch.Tensor, scales: torch.Tensor, global_scale: float, use: str = "multiply") -> NVFP4Weight:
    scale = torch.tensor(global_scale, dtype=torch.float32, device=DEVICE)
    build = NVFP4Weight.from_modelopt if use == "multiply" else NVFP4Weight.from_compressed_tensors
    return build(codes.to(DEVICE), scales.to(DEVICE), scale)


def any_scales(n: int, k: int, seed: int) -> NVFP4Weight:
    """Random codes under random scale bytes of all 256 kinds."""
    weight = random_nvfp4(n, k, seed, DEVICE)
    scales = torch.randint(0, 256, (n, k // 16), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return make_nvfp4(weight.codes, scales.view(torch.float8_e4m3fn), 0.0123)


def every_code_and_e8m0() -> MXFP4Weight:
    """[256, 32]: row r has scale byte r and all sixteen codes, twice."""
    pairs = [2 * i + 16 * (2 * i + 1) for i in range(8)] * 2
    codes = torch.tensor([pairs] * 256, dtype=torch.uint8, device=DEVICE)
    return MXFP4Weight(codes, torch.arange(256, dtype=torch.uint8, device=DEVICE).view(256, 1), (256, 32))


def every_fp8(scale: float | list[float]) -> FP8Weight:
    """[N, 256]: all 256 bytes in every row, under one scale or a scale for each row."""
    scales = torch.tensor(scale, dtype=torch.float32, device=DEVICE)
    rows = scales.numel() if scales.dim() else 2
    values = torch.arange(256, dtype=torch.uint8, device=DEVICE).expand(rows, 256).contiguous()
    return FP8Weight(values.view(torch.float8_e4m3fn), scales)


def in_swizzled_layout(weight: QuantizedWeight) -> NVFP4Weight | MXFP4Weight:
    """The same weight with its scales in the 128x4 layout; NaN wherever the padding is."""
    assert isinstance(weight, NVFP4Weight | MXFP4Weight)
    n, columns = weight.block_scales.shape
    nan = 0x7F if isinstance(weight, NVFP4Weight) else 0xFF
    flat = np.full(-(-n // 128) * 128 * (-(-columns // 4) * 4), nan, dtype=np.uint8)
    flat[oracles.swizzled_places(n, columns)] = weight.block_scale_bytes.cpu().numpy()
    scales = torch.from_numpy(flat).to(DEVICE).view(weight.block_scales.dtype)
    return replace(weight, block_scales=scales, scale_layout="swizzled")


def any_e8m0(n: int, k: int, seed: int) -> MXFP4Weight:
    """Random codes under random scale bytes of all 256 kinds."""
    generator = torch.Generator().manual_seed(seed)
    scales = torch.randint(0, 256, (n, k // 32), generator=generator, dtype=torch.uint8)
    return MXFP4Weight(random_nvfp4(n, k, seed, DEVICE).codes, scales.to(DEVICE), (n, k))


def any_fp8(n: int, k: int, seed: int, per_row: bool = True) -> FP8Weight:
    """Random bytes of all 256 kinds."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(0, 256, (n, k), generator=generator, dtype=torch.uint8).to(DEVICE)
    return FP8Weight(values.view(torch.float8_e4m3fn), random_fp8(n, k, seed, DEVICE, per_row).scale)


def check_dequantize(weight: QuantizedWeight, dtype: torch.dtype, backend: str, config: object = None) -> None:
    """The poisoned output is the oracles' exact order, bit for bit."""
    out = torch.full(weight.shape, 77.0, dtype=dtype, device=DEVICE)
    dequantize(weight, dtype, out=out, backend=backend, config=config)  # type: ignore[arg-type]
    for oracle in oracles.DECODERS:
        assert_same_values(out, oracles.rounded(oracles.dequantized(weight, oracle), dtype))


def weights_in_float64(weight: Weight) -> tuple[NDArray[np.float64], str]:
    """The weight with all its scales, exact in float64 unless a global scale divides, and its format's name."""
    name = format_name(weight)
    match weight:
        case NVFP4Weight():
            scale = np.float64(weight.global_scale.cpu().numpy())
            products = oracles.unscaled(weight, "ml_dtypes").astype(np.float64)
            return (products / scale if weight.global_scale_use == "divide" else products * scale), name
        case MXFP4Weight():
            codes, scales = oracles.blocks_and_scales(weight, "ml_dtypes")
            return codes.astype(np.float64) * scales, name
        case FP8Weight():
            values = oracles.unscaled(weight, "ml_dtypes").astype(np.float64)
            return values * weight.scale.cpu().numpy().reshape(-1, 1), name
    return weight.cpu().double().numpy(), name


def run_gemv(
    weight: Weight, x: torch.Tensor, backend: str, out_dtype: torch.dtype, config: object = None
) -> torch.Tensor:
    """The result on the CPU, from a poisoned output."""
    shape = (*x.shape[:-1], weight.shape[0])
    out = torch.full(shape, math.nan, dtype=out_dtype, device=DEVICE)
    gemv(weight, x.to(DEVICE), out=out, backend=backend, config=config)  # type: ignore[arg-type]
    return out.cpu()


def check_random_gemv(
    weight: Weight, x: torch.Tensor, backend: str, out_dtype: torch.dtype, config: object = None
) -> None:
    """Within gamma times sum |w x| of the float64 answer, after rounding both ends to the output's type."""
    matrix, weight_format = weights_in_float64(weight)
    vectors = x.double().numpy()
    exact = vectors @ matrix.T
    tolerance = gamma(weight_format, matrix.shape[1]) * (np.abs(vectors) @ np.abs(matrix).T)
    actual = run_gemv(weight, x, backend, out_dtype, config).double()
    lowest = torch.from_numpy(exact - tolerance).to(out_dtype).double()
    highest = torch.from_numpy(exact + tolerance).to(out_dtype).double()
    wrong = ~((lowest <= actual) & (actual <= highest))
    assert not wrong.any(), f"{int(wrong.sum())} outside, by up to {(actual - torch.from_numpy(exact)).abs().max()}"


def check_exact_gemv(weight: Weight, x: torch.Tensor, backend: str, config: object = None) -> None:
    """Bit-equal to float64 where every partial sum is a float32: no order of summing can excuse a difference."""
    matrix, _ = weights_in_float64(weight)
    expected = torch.from_numpy((x.double().numpy() @ matrix.T).astype(np.float32))
    assert_same_values(run_gemv(weight, x, backend, torch.float32, config), expected)


def exact_nvfp4(n: int, k: int, seed: int) -> NVFP4Weight:
    """Scales 1, 2 and 4, some negative, and a global scale of 2^-3: with whole x below 2^7, K < 2^10 sums exactly."""
    generator = torch.Generator().manual_seed(seed)
    powers = torch.tensor([0x38, 0x40, 0x48, 0xB8, 0xC0], dtype=torch.uint8)
    scales = powers[torch.randint(0, 5, (n, k // 16), generator=generator)]
    return make_nvfp4(random_nvfp4(n, k, seed, "cpu").codes, scales.view(torch.float8_e4m3fn), 0.125)


def exact_mxfp4(n: int, k: int, seed: int) -> MXFP4Weight:
    """Scales from 1/4 to 4: sums as exactly as `exact_nvfp4`."""
    weight = random_mxfp4(n, k, seed, "cpu")
    scales = weight.block_scale_bytes % 5 + 125
    return MXFP4Weight(weight.codes.to(DEVICE), scales.to(DEVICE), (n, k))


def exact_fp8(n: int, k: int, seed: int) -> FP8Weight:
    """Magnitudes from 0.5 to 1.875 in sixteenths, a scale of 2^-3 or 2^2 for each row: K < 2^12 sums exactly."""
    values = random_fp8(n, k, seed, "cpu").value_bytes & 0x8F | 0x30
    scale = torch.tensor([0.125, 4.0]).repeat(n)[:n]
    return FP8Weight(values.to(DEVICE).view(torch.float8_e4m3fn), scale.to(DEVICE))


def exact_bf16(n: int, k: int, seed: int) -> torch.Tensor:
    """Whole numbers from -8 to 8."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-8, 9, (n, k), generator=generator).to(torch.bfloat16).to(DEVICE)


def whole_vectors(batch: int, k: int, seed: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    """Whole numbers from -100 to 100, zeros among them."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-100, 101, (batch, k), generator=generator).to(dtype)


def check_block_probes(backend: str, config: object = None, layout: str = "linear") -> None:
    """x meets one block of three; row r's scale there is byte r: every byte must come from its own block, exactly."""
    base = random_nvfp4(256, 48, 9, "cpu")
    for block in range(3):
        scales = base.block_scale_bytes.clone()
        scales[:, block] = torch.arange(256, dtype=torch.uint8)
        weight = make_nvfp4(base.codes, scales.view(torch.float8_e4m3fn), 0.25)
        x = torch.zeros(1, 48, dtype=torch.bfloat16)
        x[:, 16 * block : 16 * block + 16] = torch.arange(-7, 9)
        check_exact_gemv(in_swizzled_layout(weight) if layout == "swizzled" else weight, x, backend, config)


def check_e8m0_probes(backend: str, config: object = None, layout: str = "linear") -> None:
    """The same for MXFP4: every byte under which no weight overflows, and NaN; subnormal results must not be lost."""
    base = random_mxfp4(256, 96, 9, "cpu")
    probed = torch.arange(256, dtype=torch.uint8)
    probed[0xF5:0xFF] = 0x7F
    for block in range(3):
        scales = base.block_scale_bytes.clone()
        scales[:, block] = probed
        weight = MXFP4Weight(base.codes.to(DEVICE), scales.to(DEVICE), (256, 96))
        x = torch.zeros(1, 96, dtype=torch.bfloat16)
        x[:, 32 * block : 32 * block + 32] = torch.arange(-15, 17)
        check_exact_gemv(in_swizzled_layout(weight) if layout == "swizzled" else weight, x, backend, config)
