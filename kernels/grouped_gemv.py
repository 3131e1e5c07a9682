"""y[t, i] = W[expert_ids[t, i]] x[t] on any device: what a mixture-of-experts layer does in decode.

Only the chosen experts' bytes move. Sums are float32; a global scale (NVFP4, FP8) is applied last and once, to the sum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from roofprobe.kernels.backend import ConfigFields, choose_backend, config_for, no_config
from roofprobe.kernels.experts import Experts, check_experts, expert_bytes
from roofprobe.kernels.gemv import VECTOR_DTYPES

if TYPE_CHECKING:
    from roofprobe.kernels.gemv_triton import GemvConfig
    from roofprobe.kernels.host_threads import HostConfig


def grouped_gemv(
    weights: Experts,
    x: torch.Tensor,
    expert_ids: torch.Tensor,
    *,
    out_dtype: torch.dtype | None = None,
    out: torch.Tensor | None = None,
    config: GemvConfig | HostConfig | ConfigFields | None = None,
    backend: str | None = None,
) -> torch.Tensor:
    """Row (t, i) is expert_ids[t, i]'s matrix times x[t]: weights [E, N, K], x [T, K], result [T, top_k, N].

    weights: a bfloat16 tensor or ExpertWeights. expert_ids: int32 [T, top_k], from 0 to E - 1; an expert may serve any
    number of tokens. x and out_dtype (default: x's) are bfloat16, float16 or float32. `out`, if given, is written and
    returned. backend None takes "triton" for CUDA and "host" for CPU tensors; "torch" is the eager reference. config is
    the backend's own, GemvConfig or HostConfig.

    Raises ValueError for anything that does not fit, expert numbers in CPU tensors included. Numbers in CUDA tensors
    stay there: reading them would make the host wait. A row whose number is out of range is NaN then, and nothing is
    read for it.
    """
    weights = check_experts(weights)
    experts, n, k = weights.shape
    device = weights.device
    if x.dtype not in VECTOR_DTYPES:
        raise ValueError(f"x: expected {', '.join(map(str, VECTOR_DTYPES))}, got {x.dtype}")
    if x.dim() != 2 or x.shape[1] != k or not x.shape[0]:
        raise ValueError(f"x: expected shape [T, {k}] with T >= 1, got {list(x.shape)}")
    _check_ids(expert_ids, x.shape[0], experts)
    for name, tensor in (("x", x), ("expert_ids", expert_ids)):
        if tensor.device != device:
            raise ValueError(f"{name}: expected on {device} like the weights, got {tensor.device}")
    out_dtype = out_dtype or (x.dtype if out is None else out.dtype)
    if out_dtype not in VECTOR_DTYPES:
        raise ValueError(f"out_dtype: expected {', '.join(map(str, VECTOR_DTYPES))}, got {out_dtype}")
    shape = (*expert_ids.shape, n)
    if out is None:
        out = torch.empty(shape, dtype=out_dtype, device=device)
    if out.dtype != out_dtype or out.device != device or tuple(out.shape) != shape or not out.is_contiguous():
        raise ValueError(
            f"out: expected contiguous {out_dtype} {list(shape)} on {device}, got {out.dtype} {list(out.shape)} "
            f"with strides {list(out.stride())} on {out.device}"
        )
    x, expert_ids = x.contiguous(), expert_ids.contiguous()
    match choose_backend(x, backend):
        case "triton":
            from roofprobe.kernels import gemv_triton, grouped_gemv_triton

            used = grouped_gemv_triton.default_config(weights, expert_ids) if config is None else config
            grouped_gemv_triton.grouped_gemv(weights, x, expert_ids, out, config_for(used, gemv_triton.GemvConfig))
        case "host":
            _on_host(weights, x, expert_ids, out, config)
        case "torch":
            from roofprobe.kernels import grouped_gemv_torch

            no_config(config)
            grouped_gemv_torch.grouped_gemv(weights, x, expert_ids, out)
    return out


def algorithmic_bytes(
    weights: Experts,
    expert_ids: torch.Tensor,
    x_dtype: torch.dtype = torch.bfloat16,
    out_dtype: torch.dtype | None = None,
) -> int:
    """Bytes that must move: every chosen expert, x and the numbers read once, the result written once.

    An expert that several tokens choose counts once, one that none chooses not at all. Copies the numbers to the host.
    """
    _, n, k = weights.shape
    tokens, pairs = expert_ids.shape[0], expert_ids.numel()
    distinct: int = expert_ids.unique().numel()
    return (
        distinct * expert_bytes(weights)
        + tokens * k * x_dtype.itemsize
        + expert_ids.nbytes
        + pairs * n * (out_dtype or x_dtype).itemsize
    )


def _check_ids(expert_ids: torch.Tensor, tokens: int, experts: int) -> None:
    if expert_ids.dtype != torch.int32:
        raise ValueError(f"expert_ids: expected torch.int32, got {expert_ids.dtype}")
    if expert_ids.dim() != 2 or expert_ids.shape[0] != tokens or not expert_ids.shape[1]:
        raise ValueError(f"expert_ids: expected shape [{tokens}, top_k] with top_k >= 1, got {list(expert_ids.shape)}")
    if not expert_ids.is_cuda:
        lowest, highest = int(expert_ids.min()), int(expert_ids.max())
        if lowest < 0 or highest >= experts:
            wrong = lowest if lowest < 0 else highest
            raise ValueError(f"expert_ids: expected 0 to {experts - 1}, got {wrong}")


def _on_host(weights: Experts, x: torch.Tensor, expert_ids: torch.Tensor, out: torch.Tensor, config: object) -> None:
    """The host kernels take bfloat16 and float32 and write float32: float16 is widened, results are rounded once."""
    from roofprobe.kernels import grouped_gemv_host as host
    from roofprobe.kernels.host_threads import HostConfig

    used = config_for(config, HostConfig)
    x = x.float() if x.dtype == torch.float16 else x
    sums = out if out.dtype == torch.float32 else torch.empty(out.shape, dtype=torch.float32)
    if isinstance(weights, torch.Tensor):
        host.grouped_gemv_bf16(weights, x, expert_ids, sums, used)
    elif weights.format == "fp8":
        host.grouped_gemv_fp8(weights.values.view(torch.uint8), weights.scales, x, expert_ids, sums, used)
    else:
        codes, scales, swizzled = weights.values, weights.scales.view(torch.uint8), weights.scale_layout == "swizzled"
        if weights.global_scale is None:
            host.grouped_gemv_mxfp4(codes, scales, x, expert_ids, sums, used, swizzled)
        else:
            divide = weights.global_scale_use == "divide"
            host.grouped_gemv_nvfp4(codes, scales, weights.global_scale, divide, x, expert_ids, sums, used, swizzled)
    if sums is not out:
        out.copy_(sums)
