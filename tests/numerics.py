"""When a kernel is right: the gates that every backend's tests share, and the one table of tolerances."""

import math

import numpy as np
from numpy.typing import NDArray
import oracles
import torch

from roofprobe.kernels.dequant import dequantize
from roofprobe.kernels.formats import NVFP4Weight, Weight, random_nvfp4
from roofprobe.kernels.gemv import gemv

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
UNIT_ROUNDOFF = 2.0**-24
SUM_DEPTH = {"bf16": (32, 16), "nvfp4": (32, 16)}  # format -> (accumulators a row, other roundings on a product's path)


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


def check_dequantize(weight: NVFP4Weight, dtype: torch.dtype, backend: str, config: object = None) -> None:
    """The poisoned output is the oracles' exact order, bit for bit."""
    out = torch.full(weight.shape, 77.0, dtype=dtype, device=DEVICE)
    dequantize(weight, dtype, out=out, backend=backend, config=config)  # type: ignore[arg-type]
    for oracle in oracles.DECODERS:
        assert_same_values(out, oracles.rounded(oracles.dequantized(weight, oracle), dtype))


def weights_in_float64(weight: Weight) -> tuple[NDArray[np.float64], str]:
    """The weight with its global scale, exact in float64 when it multiplies, and its format's name."""
    if not isinstance(weight, NVFP4Weight):
        return weight.cpu().double().numpy(), "bf16"
    scale = np.float64(weight.global_scale.cpu().numpy())
    products = oracles.unscaled(weight, "ml_dtypes").astype(np.float64)
    return (products / scale if weight.global_scale_use == "divide" else products * scale), "nvfp4"


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


def exact_bf16(n: int, k: int, seed: int) -> torch.Tensor:
    """Whole numbers from -8 to 8."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-8, 9, (n, k), generator=generator).to(torch.bfloat16).to(DEVICE)


def whole_vectors(batch: int, k: int, seed: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    """Whole numbers from -100 to 100, zeros among them."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-100, 101, (batch, k), generator=generator).to(dtype)


def check_block_probes(backend: str, config: object = None) -> None:
    """x meets one block of three; row r's scale there is byte r: every byte must come from its own block, exactly."""
    base = random_nvfp4(256, 48, 9, "cpu")
    for block in range(3):
        scales = base.block_scale_bytes.clone()
        scales[:, block] = torch.arange(256, dtype=torch.uint8)
        weight = make_nvfp4(base.codes, scales.view(torch.float8_e4m3fn), 0.25)
        x = torch.zeros(1, 48, dtype=torch.bfloat16)
        x[:, 16 * block : 16 * block + 16] = torch.arange(-7, 9)
        check_exact_gemv(weight, x, backend, config)
