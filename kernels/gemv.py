"""y = W x on any device, for batch 1 to 16: what a decode step does.

The order of rounding: products and sums are float32 (the order of the sums is the backend's); a block scale meets its
block's float32 sum or its weights; the scale for the tensor (NVFP4: multiplied by or divided by) or the row (FP8) is
applied last and once, to the sum; the result is rounded once to out_dtype. A weight is decoded once for the whole
batch. MXFP4 weights of 2^128 and more, which dequantize to infinity, may give infinity or NaN.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from roofprobe.kernels.backend import ConfigFields, choose_backend, config_for, no_config
from roofprobe.kernels.formats import (
    FP8Weight,
    MXFP4Weight,
    NVFP4Weight,
    Weight,
    check_weight,
    format_name,
    stored_bytes,
)

if TYPE_CHECKING:
    from roofprobe.kernels.gemv_triton import GemvConfig
    from roofprobe.kernels.host_threads import HostConfig

MAX_BATCH = 16
VECTOR_DTYPES = (torch.bfloat16, torch.float16, torch.float32)


def gemv(
    weight: Weight,
    x: torch.Tensor,
    *,
    out_dtype: torch.dtype | None = None,
    out: torch.Tensor | None = None,
    config: GemvConfig | HostConfig | ConfigFields | None = None,
    backend: str | None = None,
) -> torch.Tensor:
    """W x: weight bfloat16 [N, K] or quantized; x [K] or [B, K], B from 1 to 16; result [N] or [B, N].

    x and out_dtype (default: x's) are bfloat16, float16 or float32. `out`, if given, is written and returned.
    backend None takes "triton" for CUDA and "host" for CPU tensors; "torch" is the eager reference. config is the
    backend's own, GemvConfig or HostConfig. Raises ValueError for anything that does not fit.
    """
    weight = check_weight(weight)
    n, k = weight.shape
    device = weight.device
    if x.dtype not in VECTOR_DTYPES:
        raise ValueError(f"x: expected {', '.join(map(str, VECTOR_DTYPES))}, got {x.dtype}")
    if x.dim() not in (1, 2) or x.shape[-1] != k:
        raise ValueError(f"x: expected shape [{k}] or [B, {k}], got {list(x.shape)}")
    if x.device != device:
        raise ValueError(f"x: expected on {device} like the weight, got {x.device}")
    vectors = x.reshape(-1, k).contiguous()
    batch = vectors.shape[0]
    if not 1 <= batch <= MAX_BATCH:
        raise ValueError(f"x: expected a batch of 1 to {MAX_BATCH}, got {batch}")
    shape = (*x.shape[:-1], n)
    out_dtype = out_dtype or (x.dtype if out is None else out.dtype)
    if out_dtype not in VECTOR_DTYPES:
        raise ValueError(f"out_dtype: expected {', '.join(map(str, VECTOR_DTYPES))}, got {out_dtype}")
    if out is None:
        out = torch.empty(shape, dtype=out_dtype, device=device)
    if out.dtype != out_dtype or out.device != device or tuple(out.shape) != shape or not out.is_contiguous():
        raise ValueError(
            f"out: expected contiguous {out_dtype} {list(shape)} on {device}, got {out.dtype} {list(out.shape)} "
            f"with strides {list(out.stride())} on {out.device}"
        )
    result = out.view(batch, n)
    match choose_backend(vectors, backend):
        case "triton":
            from roofprobe.kernels import gemv_triton
            from roofprobe.kernels.launch import device_mode, multiprocessors

            if config is None:
                mode = gemv_triton.gemv_mode(format_name(weight), k, x.dtype, device_mode(device))
                config = gemv_triton.default_config(n, batch, multiprocessors(device), mode)
            gemv_triton.gemv(weight, vectors, result, config_for(config, gemv_triton.GemvConfig))
        case "host":
            _on_host(weight, vectors, result, config)
        case "torch":
            from roofprobe.kernels import gemv_torch

            no_config(config)
            gemv_torch.gemv(weight, vectors, result)
    return out


def algorithmic_bytes(
    weight: Weight, batch: int, x_dtype: torch.dtype = torch.bfloat16, out_dtype: torch.dtype | None = None
) -> int:
    """Bytes that must move: the stored weight and x read once, the result written once."""
    n, k = weight.shape
    return stored_bytes(weight) + batch * (k * x_dtype.itemsize + n * (out_dtype or x_dtype).itemsize)


def _on_host(weight: Weight, x: torch.Tensor, out: torch.Tensor, config: object) -> None:
    """The host kernels take bfloat16 and float32 and write float32: float16 is widened, results are rounded once."""
    from roofprobe.kernels import gemv_host, host_threads

    used = config_for(config, host_threads.HostConfig)
    x = x.float() if x.dtype == torch.float16 else x
    sums = out if out.dtype == torch.float32 else torch.empty(out.shape, dtype=torch.float32)
    match weight:
        case FP8Weight():
            gemv_host.gemv_fp8(weight.value_bytes, weight.scale, x, sums, used)
        case MXFP4Weight():
            scales = weight.block_scale_bytes
            gemv_host.gemv_mxfp4(weight.codes, scales, x, sums, used, swizzled=weight.swizzled)
        case NVFP4Weight():
            divide = weight.global_scale_use == "divide"
            scales, scale = weight.block_scale_bytes, weight.global_scale.item()
            gemv_host.gemv_nvfp4(weight.codes, scales, scale, divide, x, sums, used, swizzled=weight.swizzled)
        case _:
            gemv_host.gemv_bf16(weight, x, sums, used)
    if sums is not out:
        out.copy_(sums)
