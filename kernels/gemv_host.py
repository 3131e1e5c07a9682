"""y = W x on the CPU for 1 to 16 vectors x: bfloat16, FP8, NVFP4 and MXFP4 weights, decoded on the way.

The kernel is in gemv_rows_host.py. A weight is widened exactly (the value, or q * s) and multiplied by x with float32
accumulation; NVFP4's global scale and FP8's are applied to the sum, once.

On a CPU the FP4 and FP8 kernels are bound by their decoding and not by memory: say so beside their share of the
memory ceiling.

All functions take x bfloat16 or float32 [B, K], B from 1 to 16, and write out float32 [B, N]. They raise ValueError
naming the tensor that has another dtype, shape or device, or is not contiguous.
"""

from typing import Any

import numpy as np
import torch

from roofprobe.kernels.dequant_host import MXFP4_BLOCK, NVFP4_BLOCK, require_fp4
from roofprobe.kernels.gemv_rows_host import Groups, multiply
from roofprobe.kernels.host_memory import bits, floats, require
from roofprobe.kernels.host_threads import HostConfig
from roofprobe.kernels.tables_host import mxfp4_planes, nvfp4_planes
from roofprobe.kernels.weights_host import BF16, FP8, fp4

MAX_BATCH = 16
DEFAULT = HostConfig()
ONE = np.ones(1, dtype=np.float32)


def _run(
    weight: Any,
    row_bytes: int,
    factors: Any,
    divide: bool,
    x: torch.Tensor,
    out: torch.Tensor,
    config: HostConfig,
) -> torch.Tensor:
    """All vectors meet the one matrix."""
    every = np.arange(len(x))
    groups = Groups(np.zeros(1, dtype=np.int64), np.array([0, len(x)]), every, every)
    return multiply(weight, row_bytes, groups, factors, divide, x, out, config)


def _require_vectors(x: torch.Tensor, out: torch.Tensor, n: int, k: int) -> None:
    require("x", x, (torch.bfloat16, torch.float32), (None, k))
    if not 1 <= x.shape[0] <= MAX_BATCH:
        raise ValueError(f"x: expected 1 to {MAX_BATCH} vectors, got {x.shape[0]}")
    require("out", out, (torch.float32,), (x.shape[0], n))


def gemv_bf16(weight: torch.Tensor, x: torch.Tensor, out: torch.Tensor, config: HostConfig = DEFAULT) -> torch.Tensor:
    """out[b, n] = sum over k of weight[n, k] * x[b, k]; weight bfloat16 [N, K], any N and K."""
    require("weight", weight, (torch.bfloat16,), (None, None))
    n, k = weight.shape
    _require_vectors(x, out, n, k)
    return _run(BF16(bits(weight)), 2 * k, ONE, False, x, out, config)


def gemv_fp8(
    values_bytes: torch.Tensor,
    scale: torch.Tensor,
    x: torch.Tensor,
    out: torch.Tensor,
    config: HostConfig = DEFAULT,
) -> torch.Tensor:
    """out[b, n] = scale * sum over k of value[n, k] * x[b, k], or scale[n] times it.

    values_bytes uint8 (E4M3FN) [N, K], scale float32 [] or [N]; any N and K.
    """
    require("values_bytes", values_bytes, (torch.uint8,), (None, None))
    n, k = values_bytes.shape
    require("scale", scale, (torch.float32,), (n,) if scale.dim() else ())
    _require_vectors(x, out, n, k)
    factors = floats(scale)
    weight = FP8(bits(values_bytes), factors)
    return _run(weight, k, factors.reshape(1, n) if scale.dim() else factors, False, x, out, config)


def gemv_nvfp4(
    codes: torch.Tensor,
    scale_bytes: torch.Tensor,
    global_scale: float,
    divide: bool,
    x: torch.Tensor,
    out: torch.Tensor,
    config: HostConfig = DEFAULT,
    swizzled: bool = False,
) -> torch.Tensor:
    """out[b, n] = g * sum over k of q[n, k] * s[n, k // 16] * x[b, k] (`divide`: the sum / g).

    codes uint8 [N, K/2] (even k in the low nibble), scale_bytes uint8 (E4M3FN) [N, K/16], or with `swizzled` flat in
    the 128x4 layout; K a multiple of 16.
    """
    n, k = require_fp4(codes, scale_bytes, NVFP4_BLOCK, swizzled)
    _require_vectors(x, out, n, k)
    planes = nvfp4_planes(1.0, False, torch.bfloat16)
    weight = fp4(NVFP4_BLOCK, swizzled)(bits(codes), bits(scale_bytes), planes, n)
    return _run(weight, k // 2, np.array([global_scale], dtype=np.float32), divide, x, out, config)


def gemv_mxfp4(
    codes: torch.Tensor,
    scale_bytes: torch.Tensor,
    x: torch.Tensor,
    out: torch.Tensor,
    config: HostConfig = DEFAULT,
    swizzled: bool = False,
) -> torch.Tensor:
    """out[b, n] = sum over k of q[n, k] * s[n, k // 32] * x[b, k], each q * s a float32 (infinite from 2^128).

    codes uint8 [N, K/2] (even k in the low nibble), scale_bytes uint8 (E8M0) [N, K/32], or with `swizzled` flat in the
    128x4 layout; K a multiple of 32.
    """
    n, k = require_fp4(codes, scale_bytes, MXFP4_BLOCK, swizzled)
    _require_vectors(x, out, n, k)
    weight = fp4(MXFP4_BLOCK, swizzled)(bits(codes), bits(scale_bytes), mxfp4_planes(torch.bfloat16), n)
    return _run(weight, k // 2, ONE, False, x, out, config)
