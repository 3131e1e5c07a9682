"""Dequantization on any device.

The *exact* order of rounding, the same on every backend:
FP8    w[n, k] = RN(e4m3 * scale), one float32 multiplication
NVFP4  w[n, k] = RN(e2m1 * e4m3 * global scale): e2m1 * e4m3 is exact in float32; one multiplication by the global scale
       (one division where the checkpoint divides) rounds to float32
MXFP4  w[n, k] = e2m1 * e8m0, exact in float32 down to 2^-128 (a subnormal); infinite where it is 2^128 or more, which
       takes a scale of 2^126 or 2^127
bfloat16 and float16 round that float32 once more, to nearest even. Every backend gives the same bits, NaN's payload
aside: NaN comes from a NaN scale or value, and from zero times an infinite global scale.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from roofprobe.kernels.backend import ConfigFields, choose_backend, config_for, no_config
from roofprobe.kernels.formats import FP8Weight, MXFP4Weight, NVFP4Weight, QuantizedWeight, stored_bytes

if TYPE_CHECKING:
    from roofprobe.kernels.dequant_triton import DequantConfig
    from roofprobe.kernels.host_threads import HostConfig

OUT_DTYPES = (torch.bfloat16, torch.float16, torch.float32)


def dequantize(
    weight: QuantizedWeight,
    out_dtype: torch.dtype = torch.bfloat16,
    *,
    out: torch.Tensor | None = None,
    config: DequantConfig | HostConfig | ConfigFields | None = None,
    backend: str | None = None,
) -> torch.Tensor:
    """The weight [N, K] in `out_dtype` (bfloat16, float16 or float32), written to `out` if given.

    backend None takes "triton" for CUDA and "host" for CPU weights; "torch" is the eager reference. config is the
    backend's own, DequantConfig or HostConfig. Raises ValueError for anything that does not fit.
    """
    if not isinstance(weight, NVFP4Weight | MXFP4Weight | FP8Weight):
        raise ValueError(f"weight: expected NVFP4Weight, MXFP4Weight or FP8Weight, got {type(weight).__name__}")
    if out_dtype not in OUT_DTYPES:
        raise ValueError(f"out_dtype: expected {', '.join(map(str, OUT_DTYPES))}, got {out_dtype}")
    if out is None:
        out = torch.empty(weight.shape, dtype=out_dtype, device=weight.device)
    _check_out(out, weight, out_dtype)
    match choose_backend(out, backend):
        case "triton":
            from roofprobe.kernels import dequant_triton
            from roofprobe.kernels.launch import device_mode

            used = dequant_triton.DequantConfig(decode=device_mode(out.device)) if config is None else config
            dequant_triton.dequantize(weight, out, config_for(used, dequant_triton.DequantConfig))
        case "host":
            _on_host(weight, out, config)
        case "torch":
            from roofprobe.kernels import dequant_torch

            no_config(config)
            dequant_torch.dequantize(weight, out)
    return out


def algorithmic_bytes(weight: QuantizedWeight, out_dtype: torch.dtype) -> int:
    """Bytes that must move: codes and scales read once, the result written once."""
    n, k = weight.shape
    return stored_bytes(weight) + n * k * out_dtype.itemsize


def _check_out(out: torch.Tensor, weight: QuantizedWeight, dtype: torch.dtype) -> None:
    if out.dtype != dtype:
        raise ValueError(f"out: expected {dtype}, got {out.dtype}")
    if tuple(out.shape) != weight.shape or not out.is_contiguous():
        raise ValueError(f"out: expected contiguous {list(weight.shape)}, got {list(out.shape)} {out.stride()}")
    if out.device != weight.device:
        raise ValueError(f"out: expected on {weight.device}, got {out.device}")


def _on_host(weight: QuantizedWeight, out: torch.Tensor, config: object) -> None:
    from roofprobe.kernels import dequant_host, host_threads

    used = config_for(config, host_threads.HostConfig)
    match weight:
        case FP8Weight():
            dequant_host.dequantize_fp8(weight.value_bytes, weight.scale, out, used)
        case MXFP4Weight():
            scales = weight.block_scale_bytes
            dequant_host.dequantize_mxfp4(weight.codes, scales, out, used, swizzled=weight.swizzled)
        case NVFP4Weight():
            scales, scale, divide = (
                weight.block_scale_bytes,
                weight.global_scale.item(),
                weight.global_scale_use == "divide",
            )
            dequant_host.dequantize_nvfp4(weight.codes, scales, scale, divide, out, used, swizzled=weight.swizzled)
