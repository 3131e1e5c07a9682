"""out[t, i] = W[expert_ids[t, i]] x[t] on the CPU, what a mixture-of-experts layer does in decode.

The tokens are sorted by expert first: each chosen expert's weights are read and decoded once for all of its tokens,
and the others' are never touched. The kernel, its order of summing and its last scale are the GEMV's.

All functions take x bfloat16 or float32 [T, K] and expert_ids int32 [T, top_k], and write out float32
[T, top_k, N]. They raise ValueError naming the tensor that has another dtype, shape or device, or is not contiguous,
and for an expert that there is not.
"""

import numpy as np
import torch

from roofprobe.kernels.dequant_host import MXFP4_BLOCK, NVFP4_BLOCK, require_fp4
from roofprobe.kernels.gemv_rows_host import Groups, multiply
from roofprobe.kernels.host_memory import bits, floats, require
from roofprobe.kernels.host_threads import HostConfig
from roofprobe.kernels.tables_host import mxfp4_planes, nvfp4_planes
from roofprobe.kernels.weights_host import BF16, FP8, fp4

DEFAULT = HostConfig()


def group_by_expert(expert_ids: torch.Tensor) -> Groups:
    """One group for each expert that occurs, ascending; a pair's place is its index in expert_ids, flat."""
    ids = expert_ids.reshape(-1).numpy()
    places = np.argsort(ids, kind="stable")
    experts, begins = np.unique(ids[places], return_index=True)
    vectors = places // expert_ids.shape[1] if ids.size else places
    return Groups(experts.astype(np.int64), np.append(begins, ids.size), vectors, places)


def _require_tokens(
    x: torch.Tensor, expert_ids: torch.Tensor, out: torch.Tensor, experts: int, n: int, k: int
) -> Groups:
    require("x", x, (torch.bfloat16, torch.float32), (None, k))
    require("expert_ids", expert_ids, (torch.int32,), (x.shape[0], None))
    require("out", out, (torch.float32,), (*expert_ids.shape, n))
    groups = group_by_expert(expert_ids)
    for expert in (groups.matrices[:1], groups.matrices[-1:]):
        if expert.size and not 0 <= expert[0] < experts:
            raise ValueError(f"expert_ids: expected 0 to {experts - 1}, got {expert[0]}")
    return groups


def grouped_gemv_bf16(
    weight: torch.Tensor, x: torch.Tensor, expert_ids: torch.Tensor, out: torch.Tensor, config: HostConfig = DEFAULT
) -> torch.Tensor:
    """out[t, i, n] = sum over k of weight[e, n, k] * x[t, k], e = expert_ids[t, i]; weight bfloat16 [E, N, K]."""
    require("weight", weight, (torch.bfloat16,), (None, None, None))
    experts, n, k = weight.shape
    groups = _require_tokens(x, expert_ids, out, experts, n, k)
    ones = np.ones(experts, dtype=np.float32)
    return multiply(BF16(bits(weight)), 2 * k, groups, ones, False, x, out, config)


def grouped_gemv_fp8(
    values_bytes: torch.Tensor,
    scale: torch.Tensor,
    x: torch.Tensor,
    expert_ids: torch.Tensor,
    out: torch.Tensor,
    config: HostConfig = DEFAULT,
) -> torch.Tensor:
    """out[t, i, n] = scale[e] (or scale[e, n]) * sum over k of value[e, n, k] * x[t, k], e = expert_ids[t, i].

    values_bytes uint8 (E4M3FN) [E, N, K], scale float32 [E] or [E, N].
    """
    require("values_bytes", values_bytes, (torch.uint8,), (None, None, None))
    experts, n, k = values_bytes.shape
    require("scale", scale, (torch.float32,), (experts, n) if scale.dim() > 1 else (experts,))
    groups = _require_tokens(x, expert_ids, out, experts, n, k)
    factors = floats(scale)
    weight = FP8(bits(values_bytes), factors)
    return multiply(weight, k, groups, factors.reshape(scale.shape), False, x, out, config)


def grouped_gemv_nvfp4(
    codes: torch.Tensor,
    scale_bytes: torch.Tensor,
    global_scale: torch.Tensor,
    divide: bool,
    x: torch.Tensor,
    expert_ids: torch.Tensor,
    out: torch.Tensor,
    config: HostConfig = DEFAULT,
    swizzled: bool = False,
) -> torch.Tensor:
    """out[t, i, n] = g[e] * sum over k of q[e, n, k] * s[e, n, k // 16] * x[t, k] (`divide`: the sum / g[e]).

    codes uint8 [E, N, K/2] (even k in the low nibble), scale_bytes uint8 (E4M3FN) [E, N, K/16], or with `swizzled`
    [E, bytes]: each expert's in the 128x4 layout; global_scale float32 [E]; K a multiple of 16.
    """
    n, k = require_fp4(codes, scale_bytes, NVFP4_BLOCK, swizzled, experts=(None,))
    require("global_scale", global_scale, (torch.float32,), (codes.shape[0],))
    groups = _require_tokens(x, expert_ids, out, codes.shape[0], n, k)
    planes = nvfp4_planes(1.0, False, torch.bfloat16)
    weight = fp4(NVFP4_BLOCK, swizzled)(bits(codes), bits(scale_bytes), planes, n)
    return multiply(weight, k // 2, groups, floats(global_scale), divide, x, out, config)


def grouped_gemv_mxfp4(
    codes: torch.Tensor,
    scale_bytes: torch.Tensor,
    x: torch.Tensor,
    expert_ids: torch.Tensor,
    out: torch.Tensor,
    config: HostConfig = DEFAULT,
    swizzled: bool = False,
) -> torch.Tensor:
    """out[t, i, n] = sum over k of q[e, n, k] * s[e, n, k // 32] * x[t, k], e = expert_ids[t, i].

    codes uint8 [E, N, K/2] (even k in the low nibble), scale_bytes uint8 (E8M0) [E, N, K/32], or with `swizzled`
    [E, bytes]: each expert's in the 128x4 layout; K a multiple of 32.
    """
    n, k = require_fp4(codes, scale_bytes, MXFP4_BLOCK, swizzled, experts=(None,))
    groups = _require_tokens(x, expert_ids, out, codes.shape[0], n, k)
    weight = fp4(MXFP4_BLOCK, swizzled)(bits(codes), bits(scale_bytes), mxfp4_planes(torch.bfloat16), n)
    return multiply(weight, k // 2, groups, np.ones(codes.shape[0], dtype=np.float32), False, x, out, config)
