"""NVFP4, MXFP4 and FP8 -> bfloat16, float16 or float32 on the CPU, bit-exact to one order of rounding.

NVFP4: RN(q * s * g), with `divide` RN(q * s / g). MXFP4: RN(q * s). FP8: RN(value * scale). q * s is exact in float32
(MXFP4's too, short of overflow), so float32 rounds once; bfloat16 and float16 round that once more, to nearest even.
FP4 goes by the tables of tables_host.py, which hold the rounded results; FP8 is converted and rounded lane by lane.

All functions raise ValueError naming the tensor that has another dtype, shape or device, or is not contiguous. An
`out` on no boundary of 16 elements, or FP8 rows that are not a multiple of 16, get normal stores.
"""

# ruff: noqa: ARG001 (the functions behind an overload share one list of parameters)

from typing import Any

from numba import prange
from numba.extending import overload
import numpy as np
import torch

from roofprobe.kernels.host_memory import bits, floats, require
from roofprobe.kernels.host_threads import HostConfig, host_kernel, launch, share
from roofprobe.kernels.tables_host import mxfp4_planes, nvfp4_planes
from roofprobe.kernels.vector_ir import fence, fetch_add, load_first, pin_to, store, store_first, stream
from roofprobe.kernels.vector_math import from_e4m3, splat, to_bf16, to_bits, to_f16
from roofprobe.kernels.weights_host import FP8, fp4, fp4_results, scale_row

DEFAULT = HostConfig()
OUT_DTYPES = (torch.bfloat16, torch.float16, torch.float32)
NVFP4_BLOCK, MXFP4_BLOCK = 16, 32


def _results(weight: Any, first: Any, scales: Any, j: Any, count: Any, out: Any, half: Any) -> Any:
    """Inside a kernel: the bits of the first `count` of weights j to j + 15 of a row, as wide as out's elements."""


@overload(_results)
def _choose_results(weight: Any, first: Any, scales: Any, j: Any, count: Any, out: Any, half: Any) -> Any:
    def from_planes(weight: Any, first: Any, scales: Any, j: Any, count: Any, out: Any, half: Any) -> Any:
        return fp4_results(weight, first, scales, j, out)  # whole blocks

    def two_bytes(weight: Any, first: Any, scales: Any, j: Any, count: Any, out: Any, half: Any) -> Any:
        values = _scaled(weight, first, scales, j, count)
        return to_f16(values) if half else to_bf16(values)

    def four_bytes(weight: Any, first: Any, scales: Any, j: Any, count: Any, out: Any, half: Any) -> Any:
        return to_bits(_scaled(weight, first, scales, j, count))

    if weight.instance_class is not FP8:
        return from_planes
    return two_bytes if out.dtype.bitwidth == 16 else four_bytes


@host_kernel()
def _scaled(weight: Any, first: int, scales: int, j: int, count: int) -> Any:
    return from_e4m3(load_first(weight.values, first + j, count)) * splat(weight.scales[np.uint64(scales)])


@host_kernel()
def _worker(counter: Any, weight: Any, k: int, out: Any, half: bool, chunk: int, streaming: bool) -> None:
    """Rows of k weights; chunks of a multiple of 16 of them."""
    start = fetch_add(counter, 0, chunk)
    while start < out.size:
        i, end = start, min(start + chunk, out.size)
        while i < end:
            row = i // k
            first, last, scales = row * k, min(end, (row + 1) * k), scale_row(weight, row, k)
            whole = last - (last - i) % 16
            if streaming:
                for j in range(i, whole, 16):
                    stream(out, j, _results(weight, first, scales, j - first, 16, out, half))
            else:
                for j in range(i, whole, 16):
                    store(out, j, _results(weight, first, scales, j - first, 16, out, half))
            if whole < last:
                count = last - whole
                store_first(out, whole, _results(weight, first, scales, whole - first, count, out, half), count)
            i = last
        start = fetch_add(counter, 0, chunk)
    fence()


@host_kernel(parallel=True)
def _dequantize(
    cpus: Any, counter: Any, weight: Any, k: int, out: Any, half: bool, chunk: int, streaming: bool
) -> None:
    for worker in prange(cpus.size):
        pin_to(cpus[worker])
        _worker(counter, weight, k, out, half, chunk, streaming)


def _run(weight: Any, k: int, out: torch.Tensor, config: HostConfig) -> torch.Tensor:
    width = out.element_size()
    aligned = out.data_ptr() % (16 * width) == 0 and (k % 16 == 0 or k == out.numel())
    chunk = share(config, out.numel() * width) // width
    half = out.dtype == torch.float16
    launch(_dequantize, config, weight, k, bits(out), half, chunk, config.streaming and aligned)
    return out


def swizzled_bytes(n: int, columns: int) -> int:
    """Length of a 128x4 scale matrix [n, columns], padding included."""
    return -(-n // 128) * -(-columns // 4) * 512


def require_fp4(
    codes: torch.Tensor, scale_bytes: torch.Tensor, block: int, swizzled: bool, experts: tuple[int | None, ...] = ()
) -> tuple[int, int]:
    """(N, K) of FP4 weights, or of a stack of them; ValueError unless the two tensors make one."""
    require("codes", codes, (torch.uint8,), (*experts, None, None))
    n, k = codes.shape[-2], 2 * codes.shape[-1]
    if k % block:
        raise ValueError(f"codes: expected K a multiple of the block, {block}, got K = {k}")
    shape = (swizzled_bytes(n, k // block),) if swizzled else (n, k // block)
    require("scale_bytes", scale_bytes, (torch.uint8,), (*codes.shape[:-2], *shape))
    return n, k


def _dequantize_fp4(
    codes: torch.Tensor,
    scale_bytes: torch.Tensor,
    block: int,
    swizzled: bool,
    planes: Any,
    out: torch.Tensor,
    config: HostConfig,
) -> torch.Tensor:
    n, k = codes.shape[0], 2 * codes.shape[1]
    weight = fp4(block, swizzled)(bits(codes), bits(scale_bytes), planes, n)
    return _run(weight, k if swizzled else n * k, out, config)  # linear: as one row


def dequantize_nvfp4(
    codes: torch.Tensor,
    scale_bytes: torch.Tensor,
    global_scale: float,
    divide: bool,
    out: torch.Tensor,
    config: HostConfig = DEFAULT,
    swizzled: bool = False,
) -> torch.Tensor:
    """out[n, k] = RN_out(RN(q * s * g)), or with `divide` RN_out(RN(q * s / g)); q * s is exact in float32.

    codes uint8 [N, K/2] (even k in the low nibble), scale_bytes uint8 (E4M3FN) [N, K/16], or with `swizzled` flat in
    the 128x4 layout, out bfloat16, float16 or float32 [N, K]; K a multiple of 16. NaN where s is NaN; the sign of zero
    is kept.
    """
    shape = require_fp4(codes, scale_bytes, NVFP4_BLOCK, swizzled)
    require("out", out, OUT_DTYPES, shape)
    planes = nvfp4_planes(float(global_scale), divide, out.dtype)
    return _dequantize_fp4(codes, scale_bytes, NVFP4_BLOCK, swizzled, planes, out, config)


def dequantize_mxfp4(
    codes: torch.Tensor,
    scale_bytes: torch.Tensor,
    out: torch.Tensor,
    config: HostConfig = DEFAULT,
    swizzled: bool = False,
) -> torch.Tensor:
    """out[n, k] = RN_out(RN(q * s)): exact in float32, where byte 0x00 is the subnormal 2^-127; infinite from 2^128.

    codes uint8 [N, K/2] (even k in the low nibble), scale_bytes uint8 (E8M0) [N, K/32], or with `swizzled` flat in the
    128x4 layout, out bfloat16, float16 or float32 [N, K]; K a multiple of 32. NaN where s is NaN (0xFF), for zeros too.
    """
    shape = require_fp4(codes, scale_bytes, MXFP4_BLOCK, swizzled)
    require("out", out, OUT_DTYPES, shape)
    return _dequantize_fp4(codes, scale_bytes, MXFP4_BLOCK, swizzled, mxfp4_planes(out.dtype), out, config)


def dequantize_fp8(
    values_bytes: torch.Tensor, scale: torch.Tensor, out: torch.Tensor, config: HostConfig = DEFAULT
) -> torch.Tensor:
    """out[n, k] = RN_out(RN(value * scale)), or scale[n].

    values_bytes uint8 (E4M3FN) [N, K], scale float32 [] or [N], out bfloat16, float16 or float32 [N, K]; any N and K.
    """
    require("values_bytes", values_bytes, (torch.uint8,), (None, None))
    n, k = values_bytes.shape
    require("scale", scale, (torch.float32,), (n,) if scale.dim() else ())
    require("out", out, OUT_DTYPES, (n, k))
    return _run(FP8(bits(values_bytes), floats(scale)), k if scale.dim() else n * k, out, config)
