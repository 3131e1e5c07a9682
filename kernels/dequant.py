"""Dequantization on any device.

w[n, k] = RN(e2m1 * e4m3 * global scale), the *exact* order: e2m1 * e4m3 is exact in float32; one multiplication by the
global scale (one division where the checkpoint divides) rounds to float32; bfloat16 and float16 round that once more,
to nearest even. Every backend gives the same bits, NaN's payload aside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from roofprobe.kernels.backend import choose_backend, config_for, no_config
from roofprobe.kernels.formats import NVFP4Weight, stored_bytes

if TYPE_CHECKING:
    from roofprobe.kernels.dequant_triton import DequantConfig
    from roofprobe.kernels.host_threads import HostConfig

OUT_DTYPES = (torch.bfloat16, torch.float16, torch.float32)


def dequantize(
    weight: NVFP4Weight,
    out_dtype: torch.dtype = torch.bfloat16,
    *,
    out: torch.Tensor | None = None,
    config: DequantConfig | HostConfig | None = None,
    backend: str | None = None,
) -> torch.Tensor:
    """The weight [N, K] in `out_dtype` (bfloat16, float16 or float32), written to `out` if given.

    backend None takes "triton" for CUDA and "host" for CPU weights; "torch" is the eager reference. config is the
    backend's own, DequantConfig or HostConfig. Raises ValueError for anything that does not fit.
    """
    if not isinstance(weight, NVFP4Weight):
        raise ValueError(f"weight: expected an NVFP4Weight, got {type(weight).__name__}")
    if out_dtype not in OUT_DTYPES:
        raise ValueError(f"out_dtype: expected {', '.join(map(str, OUT_DTYPES))}, got {out_dtype}")
    if out is None:
        out = torch.empty(weight.shape, dtype=out_dtype, device=weight.device)
    _check_out(out, weight, out_dtype)
    match choose_backend(weight.codes, backend):
        case "triton":
            from roofprobe.kernels import dequant_triton

            dequant_triton.dequantize_nvfp4(weight, out, config_for(config, dequant_triton.DequantConfig))
        case "host":
            from roofprobe.kernels import dequant_host, host_threads

            dequant_host.dequantize_nvfp4(
                weight.codes,
                weight.block_scale_bytes,
                weight.global_scale.item(),
                weight.global_scale_use == "divide",
                out,
                config_for(config, host_threads.HostConfig),
            )
        case "torch":
            from roofprobe.kernels import dequant_torch

            no_config(config)
            dequant_torch.dequantize_nvfp4(weight, out)
    return out


def algorithmic_bytes(weight: NVFP4Weight, out_dtype: torch.dtype) -> int:
    """Bytes that must move: codes and scales read once, the result written once."""
    n, k = weight.shape
    return stored_bytes(weight) + n * k * out_dtype.itemsize


def _check_out(out: torch.Tensor, weight: NVFP4Weight, dtype: torch.dtype) -> None:
    if out.dtype != dtype:
        raise ValueError(f"out: expected {dtype}, got {out.dtype}")
    if tuple(out.shape) != weight.shape or not out.is_contiguous():
        raise ValueError(f"out: expected contiguous {list(weight.shape)}, got {list(out.shape)} {out.stride()}")
    if out.device != weight.device:
        raise ValueError(f"out: expected on {weight.device}, got {out.device}")
