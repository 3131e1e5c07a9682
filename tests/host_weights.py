"""Weights of every format and layout for the tests of the CPU kernels; other people's decoders say what they mean."""

from collections.abc import Callable
from dataclasses import dataclass
import math

import ml_dtypes
import numpy as np
import torch

from roofprobe.kernels import gemv_host, grouped_gemv_host
from roofprobe.kernels.host_threads import HostConfig

BLOCK = {"nvfp4": 16, "mxfp4": 32}
KINDS = ["bf16", "fp8 tensor", "fp8 rows", "nvfp4", "nvfp4 divide", "nvfp4 swizzled", "mxfp4", "mxfp4 swizzled"]
SCALE_TYPE = {"nvfp4": torch.float8_e4m3fn, "mxfp4": torch.float8_e8m0fnu}
NAN_BYTE = 0xFF  # in E4M3FN and in E8M0
Gemv = Callable[[torch.Tensor, torch.Tensor, HostConfig], torch.Tensor]
Grouped = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, HostConfig], torch.Tensor]


def fp4_products(codes: torch.Tensor, scales: torch.Tensor, weight_format: str) -> torch.Tensor:
    """float32 q * s of codes [..., K/2] and linear scale bytes: ml_dtypes decodes E2M1, torch the scales."""
    nibbles = torch.stack([codes & 15, codes >> 4], dim=-1).flatten(-2)
    q = torch.from_numpy(nibbles.numpy().view(ml_dtypes.float4_e2m1fn).astype(np.float32))
    s = scales.view(SCALE_TYPE[weight_format]).float()
    return q * s.repeat_interleave(BLOCK[weight_format], dim=-1)


def swizzle(scales: torch.Tensor, padding: int = NAN_BYTE) -> torch.Tensor:
    """The 128x4 layout of bytes [N, Kb], flat, by its published formula; what pads it would show in any result."""
    n, columns = scales.shape
    r, c = np.meshgrid(np.arange(n), np.arange(columns), indexing="ij")
    place = (r // 128 * -(-columns // 4) + c // 4) * 512 + r % 32 * 16 + r % 128 // 32 * 4 + c % 4
    flat = np.full(-(-n // 128) * -(-columns // 4) * 512, padding, dtype=np.uint8)
    flat[place] = scales.numpy()
    return torch.from_numpy(flat)


def random_bytes(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def pick(choices: list[int], shape: tuple[int, ...], seed: int) -> torch.Tensor:
    at = torch.randint(0, len(choices), shape, generator=torch.Generator().manual_seed(seed))
    return torch.tensor(choices, dtype=torch.uint8)[at]


@dataclass(frozen=True)
class Experts:
    """products float32 [E, N, K]: each weight without its last scale. factors float64 [E, N, 1]: what that multiplies
    a row's sum by. `gemv` and `grouped` run the kernels, the first on expert 0."""

    products: torch.Tensor
    factors: torch.Tensor
    gemv: Gemv
    grouped: Grouped


def make(kind: str, experts: int, n: int, k: int, seed: int = 1, whole: bool = False) -> Experts:
    """Random weights without NaN; with `whole`, integers up to 24 and last scales that are powers of two."""
    weight_format, _, variant = kind.partition(" ")
    g = torch.full((experts,), 0.25) if whole else torch.rand(experts, generator=torch.Generator().manual_seed(seed))
    g = g * (1 + torch.arange(experts) % 2)  # a neighbour's scale is another one
    if weight_format == "bf16":
        return _bf16(experts, n, k, seed, whole)
    if weight_format == "fp8":
        return _fp8(experts, n, k, seed, whole, g, by_row=variant == "rows")
    block = BLOCK[weight_format]
    exact, finite = {
        "nvfp4": ([0x40, 0x48, 0xC0, 0xC8], [b for b in range(256) if b & 127 != 127]),
        "mxfp4": ([128, 129], list(range(100, 140))),
    }[weight_format]
    codes = random_bytes((experts, n, k // 2), seed)
    scales = pick(exact if whole else finite, (experts, n, k // block), seed + 1)
    return fp4(kind, codes, scales, g if weight_format == "nvfp4" else torch.ones(experts))


def fp4(kind: str, codes: torch.Tensor, scales: torch.Tensor, g: torch.Tensor) -> Experts:
    """From codes [E, N, K/2], linear scale bytes [E, N, K/block] and last scales float32 [E] (MXFP4: ones)."""
    weight_format, _, variant = kind.partition(" ")
    swizzled, divide = variant == "swizzled", variant == "divide"
    stored = torch.stack([swizzle(each) for each in scales]) if swizzled else scales
    factors = (1 / g.double() if divide else g.double())[:, None, None].expand(*codes.shape[:2], 1)

    def gemv(x: torch.Tensor, out: torch.Tensor, config: HostConfig) -> torch.Tensor:
        if weight_format == "mxfp4":
            return gemv_host.gemv_mxfp4(codes[0], stored[0], x, out, config, swizzled)
        return gemv_host.gemv_nvfp4(codes[0], stored[0], g[0].item(), divide, x, out, config, swizzled)

    def grouped(x: torch.Tensor, ids: torch.Tensor, out: torch.Tensor, config: HostConfig) -> torch.Tensor:
        if weight_format == "mxfp4":
            return grouped_gemv_host.grouped_gemv_mxfp4(codes, stored, x, ids, out, config, swizzled)
        return grouped_gemv_host.grouped_gemv_nvfp4(codes, stored, g, divide, x, ids, out, config, swizzled)

    return Experts(fp4_products(codes, scales, weight_format), factors, gemv, grouped)


def _bf16(experts: int, n: int, k: int, seed: int, whole: bool) -> Experts:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(experts, n, k, generator=generator)
    w = ((values * 5).round() if whole else values).bfloat16()
    return Experts(
        w.float(),
        torch.ones(experts, n, 1, dtype=torch.float64),
        lambda x, out, config: gemv_host.gemv_bf16(w[0], x, out, config),
        lambda x, ids, out, config: grouped_gemv_host.grouped_gemv_bf16(w, x, ids, out, config),
    )


def _fp8(experts: int, n: int, k: int, seed: int, whole: bool, g: torch.Tensor, by_row: bool) -> Experts:
    integers = torch.arange(-16.0, 17).to(torch.float8_e4m3fn).view(torch.uint8).tolist()
    finite = [b for b in range(256) if b & 127 != 127]
    values = pick(integers if whole else finite, (experts, n, k), seed)
    scale = g[:, None] * 2.0 ** (torch.arange(n) % 3) if by_row else g
    return Experts(
        values.view(torch.float8_e4m3fn).float(),
        scale.double().reshape(experts, -1, 1).expand(experts, n, 1),
        lambda x, out, config: gemv_host.gemv_fp8(values[0], scale[0], x, out, config),
        lambda x, ids, out, config: grouped_gemv_host.grouped_gemv_fp8(values, scale, x, ids, out, config),
    )


def assert_within_bound(got: torch.Tensor, products: torch.Tensor, factors: torch.Tensor, x: torch.Tensor) -> None:
    """|y - sum| <= gamma_d * sum |w x|, d = ceil(K / 32) + 16, for products [N, K] and x [B, K]; the last scale's
    rounding is inside d. Where nothing is added, nothing may come out."""
    d = math.ceil(products.shape[1] / 32) + 16
    gamma = d * 2**-24 / (1 - d * 2**-24)
    w, vectors, factor = products.double(), x.double(), factors.reshape(1, -1)
    exact = vectors @ w.T * factor
    tolerance = gamma * (vectors.abs() @ w.abs().T) * factor.abs()
    assert ((exact - tolerance).float() <= got).all() and (got <= (exact + tolerance).float()).all()


WORD = {torch.bfloat16: torch.int16, torch.float16: torch.int16, torch.float32: torch.int32}


def assert_same_bits(got: torch.Tensor, want: torch.Tensor) -> None:
    """NaN by class, everything else by its bits, so that -0 is not 0."""
    assert got.dtype == want.dtype and got.shape == want.shape
    assert torch.equal(got.isnan(), want.isnan())
    numbers = ~want.isnan()
    word = WORD[want.dtype]
    assert torch.equal(got.view(word)[numbers], want.view(word)[numbers])
