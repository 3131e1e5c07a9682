"""Values at the formats' ends: every code under every scale byte, NaN, subnormals, zeros of both signs, infinities.

Dequantization must give the eager reference's bits. A GEMV with one-hot vectors gives single weights back, so every
scale byte's place and value is seen in it too.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from gpu_checks.correctness import DTYPES, NAN, Cases, modes
from gpu_checks.machine import Machine
import torch

from roofprobe.kernels import dequant_check
from roofprobe.kernels.dequant import dequantize
from roofprobe.kernels.dequant_triton import DequantConfig
from roofprobe.kernels.formats import FP8Weight, MXFP4Weight, NVFP4Weight, QuantizedWeight, random_fp8, random_mxfp4
from roofprobe.kernels.gemv import gemv
from roofprobe.kernels.gemv_triton import GemvConfig


def cases(where: Machine) -> Cases:
    found: Cases = {}
    for mode in modes(where, "nvfp4"):
        found[f"one-hot vectors, {mode}"] = partial(_one_hot, where, mode)
        found[f"zeros give exactly zero, {mode}"] = partial(_zeros, where, mode)
        found[f"NaN stays in its row, {mode}"] = partial(_nan, where, mode)
    for name, weight in _every_value(where):
        for mode in modes(where):
            found[f"{name}, {mode}"] = partial(_all_bits, where, weight, mode)
    return found


def _every_value(where: Machine) -> Iterator[tuple[str, QuantizedWeight]]:
    pairs = torch.tensor([2 * i + 16 * (2 * i + 1) for i in range(8)], dtype=torch.uint8)
    rows = torch.arange(256, dtype=torch.uint8).view(256, 1)
    codes = pairs.expand(256, 8).contiguous().to(where.device)
    for scale in (1.0, 0.0123, 3e-38):
        global_scale = torch.tensor(scale, device=where.device)
        scales = rows.to(where.device).view(torch.float8_e4m3fn)
        yield f"nvfp4, every code and scale, times {scale:g}", NVFP4Weight(codes, scales, global_scale, (256, 16))
    double = torch.cat([codes, codes], dim=1).contiguous()
    yield "mxfp4, every code and scale", MXFP4Weight(double, rows.to(where.device), (256, 32))
    values = torch.arange(256, dtype=torch.uint8).expand(2, 256).contiguous().to(where.device)
    for scale in (1.0, 1e-38, 3e38):
        given = torch.tensor(scale, device=where.device)
        yield f"fp8, every byte, times {scale:g}", FP8Weight(values.view(torch.float8_e4m3fn), given)


def _all_bits(where: Machine, weight: QuantizedWeight, mode: str) -> Iterator[tuple[str, int]]:
    for dtype in DTYPES:
        out = torch.full(weight.shape, NAN, dtype=dtype, device=where.device)
        dequantize(weight, dtype, out=out, config=DequantConfig(decode=mode), backend="triton")
        yield str(dtype), dequant_check.count_wrong(weight, out)


def _config(mode: str) -> GemvConfig:
    return GemvConfig(warps=4, tile_bytes=64, decode=mode) if mode == "mma" else GemvConfig(decode=mode)


def _finite(where: Machine) -> NVFP4Weight:
    """[32, 64] with another finite scale byte for each of the 128 blocks."""
    generator = torch.Generator().manual_seed(3)
    codes = torch.randint(0, 256, (32, 32), generator=generator, dtype=torch.uint8).to(where.device)
    scales = (torch.arange(128, dtype=torch.uint8) % 127).view(32, 4).contiguous().to(where.device)
    return NVFP4Weight(codes, scales.view(torch.float8_e4m3fn), torch.tensor(1.0, device=where.device), (32, 64))


def _one_hot(where: Machine, mode: str) -> Iterator[tuple[str, int]]:
    weight = _finite(where)
    expected = dequantize(weight, torch.float32, backend="torch")
    for first in (0, 48) if where.dry else range(0, 64, 16):
        x = torch.zeros(16, 64, dtype=torch.bfloat16, device=where.device)
        x[torch.arange(16), first + torch.arange(16)] = 1
        y = torch.full((16, 32), NAN, device=where.device)
        gemv(weight, x, out=y, out_dtype=y.dtype, config=_config(mode), backend="triton")
        yield f"columns from {first}", int((y != expected[:, first : first + 16].T).sum())


def _zeros(where: Machine, mode: str) -> Iterator[tuple[str, int]]:
    x = torch.zeros(2, 64, dtype=torch.bfloat16, device=where.device)
    y = torch.full((2, 32), NAN, device=where.device)
    gemv(_finite(where), x, out=y, out_dtype=y.dtype, config=_config(mode), backend="triton")
    yield "x = 0", int((y != 0).sum())


def _nan(where: Machine, mode: str) -> Iterator[tuple[str, int]]:
    """A NaN scale (E4M3 0x7F, E8M0 0xFF) or value in row 5 makes that row's sums NaN, and no other."""
    nvfp4, mxfp4 = _finite(where), random_mxfp4(32, 64, 4, where.device)
    nvfp4.block_scale_bytes[5, 2] = 0x7F
    mxfp4.block_scale_bytes[5, 1] = 0xFF
    weights: list[tuple[str, QuantizedWeight]] = [("nvfp4", nvfp4), ("mxfp4", mxfp4)]
    if mode != "mma":
        fp8 = random_fp8(32, 64, 4, where.device)
        fp8.value_bytes[5, 33] = 0xFF
        weights.append(("fp8", fp8))
    x = torch.ones(2, 64, dtype=torch.bfloat16, device=where.device)
    for name, weight in weights:
        y = torch.zeros(2, 32, device=where.device)
        gemv(weight, x, out=y, out_dtype=y.dtype, config=_config(mode), backend="triton")
        y[:, 5] = torch.where(y[:, 5].isnan(), 0.0, NAN)
        yield name, int(y.isnan().sum())
