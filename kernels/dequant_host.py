"""NVFP4 -> bfloat16, float16 or float32 on the CPU, bit-exact to RN(q * s * g), and to RN(q * s / g).

A block's 16 results depend only on its scale byte and its 16 codes, and a tensor has one g: 256 rows of 16 results say
it all. They are computed once per global scale, and kept as byte planes (the results' low bytes, then the next, ...),
so that a block costs one 16-byte row a plane (8 KiB of rows for bfloat16: they stay in the L1 cache) and one
in-register byte look-up (pshufb, tbl) a plane for all 16 codes. A look-up in memory for each weight takes five times
as long.
"""

# ruff: noqa: ARG001 (the functions behind an overload share one list of parameters)

import functools
from typing import Any

from numba import prange
from numba.extending import overload
import numpy as np
import torch

from roofprobe.kernels.host_memory import bits, require
from roofprobe.kernels.host_threads import HostConfig, host_kernel, launch, share
from roofprobe.kernels.vector_ir import fence, fetch_add, load, load_nibbles, pin_to, store, stream
from roofprobe.kernels.vector_math import interleave, look_up

BLOCK = 16
DEFAULT = HostConfig()
_NUMPY = {torch.float16: np.float16, torch.float32: np.float32}


def e2m1_values() -> Any:
    """float32 [16]: the value of each E2M1 code; code 8 is -0."""
    magnitudes = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], dtype=np.float32)
    return np.concatenate([magnitudes, -magnitudes])


def e4m3_values() -> Any:
    """float32 [256]: the value of each E4M3FN byte; 0x7F and 0xFF are NaN."""
    byte = np.arange(256)
    exponent, fraction = (byte >> 3) & 15, (byte & 7).astype(np.float32)
    magnitude = np.where(exponent > 0, np.ldexp(8 + fraction, exponent - 10), np.ldexp(fraction, -9))
    magnitude = np.where(byte & 127 == 127, np.nan, magnitude)
    return np.where(byte & 128, -magnitude, magnitude).astype(np.float32)


def bf16_bits(values: Any) -> Any:
    """float32 -> the bits of the nearest bfloat16, ties to even; NaN stays NaN."""
    word = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    rounded = (word + 0x7FFF + ((word >> 16) & 1)) >> 16
    return np.where(np.isnan(values), 0x7FC0, rounded).astype(np.uint16)


@functools.lru_cache(maxsize=64)
def result_planes(global_scale: float, divide: bool, dtype: torch.dtype) -> Any:
    """uint8 [256 * bytes * 16], 64-byte aligned: byte p of the result of scale byte b and code c at [b, p, c]."""
    with np.errstate(all="ignore"):  # a huge or zero global scale gives infinities and NaN, as it should
        product = e4m3_values()[:, None] * e2m1_values()
        g = np.float32(global_scale)
        exact = product / g if divide else product * g
        results = bf16_bits(exact) if dtype == torch.bfloat16 else exact.astype(_NUMPY[dtype])
    width = results.dtype.itemsize
    planes = results.view(np.uint8).reshape(256, BLOCK, width).transpose(0, 2, 1).reshape(-1)
    room = np.empty(planes.size + 64, dtype=np.uint8)
    aligned = room[-room.ctypes.data % 64 :][: planes.size]
    aligned[:] = planes
    return aligned


def _results(codes: Any, scales: Any, planes: Any, block: Any, out: Any) -> Any:
    """Inside a kernel: the bits of the block's 16 results, as wide as out's elements."""


def _two_bytes(codes: Any, scales: Any, planes: Any, block: Any, out: Any) -> Any:
    nibbles = load_nibbles(codes, block * 8)
    row = np.int64(scales[np.uint64(block)]) * 32
    return interleave(look_up(load(planes, row), nibbles), look_up(load(planes, row + 16), nibbles))


def _four_bytes(codes: Any, scales: Any, planes: Any, block: Any, out: Any) -> Any:
    nibbles = load_nibbles(codes, block * 8)
    row = np.int64(scales[np.uint64(block)]) * 64
    low = interleave(look_up(load(planes, row), nibbles), look_up(load(planes, row + 16), nibbles))
    high = interleave(look_up(load(planes, row + 32), nibbles), look_up(load(planes, row + 48), nibbles))
    return interleave(low, high)


def _choose_results(codes: Any, scales: Any, planes: Any, block: Any, out: Any) -> Any:
    return _two_bytes if out.dtype.bitwidth == 16 else _four_bytes


overload(_results)(_choose_results)


@host_kernel()
def _worker(counter: Any, codes: Any, scales: Any, planes: Any, out: Any, chunk: int, streaming: bool) -> None:
    start = fetch_add(counter, 0, chunk)
    while start < scales.size:
        for block in range(start, min(start + chunk, scales.size)):
            results = _results(codes, scales, planes, block, out)
            if streaming:
                stream(out, block * 16, results)
            else:
                store(out, block * 16, results)
        start = fetch_add(counter, 0, chunk)
    fence()


@host_kernel(parallel=True)
def _dequantize(
    cpus: Any, counter: Any, codes: Any, scales: Any, planes: Any, out: Any, chunk: int, streaming: bool
) -> None:
    for worker in prange(cpus.size):
        pin_to(cpus[worker])
        _worker(counter, codes, scales, planes, out, chunk, streaming)


def require_nvfp4(codes: torch.Tensor, block_scales_bytes: torch.Tensor) -> tuple[int, int]:
    """(N, K) of a linear NVFP4 weight; ValueError if the two tensors don't make one."""
    require("codes", codes, (torch.uint8,), (None, None))
    n, k = codes.shape[0], 2 * codes.shape[1]
    if k % BLOCK:
        raise ValueError(f"codes: expected K a multiple of the block, {BLOCK}, got K = {k}")
    require("block_scales_bytes", block_scales_bytes, (torch.uint8,), (n, k // BLOCK))
    return n, k


def dequantize_nvfp4(
    codes: torch.Tensor,
    block_scales_bytes: torch.Tensor,
    global_scale: float,
    divide: bool,
    out: torch.Tensor,
    config: HostConfig = DEFAULT,
) -> torch.Tensor:
    """out[n, k] = RN_out(RN(q * s * g)), or with `divide` RN_out(RN(q * s / g)); q * s is exact in float32.

    codes uint8 [N, K/2] (even k in the low nibble), block_scales_bytes uint8 [N, K/16] (the E4M3FN bytes, linear),
    out bfloat16, float16 or float32 [N, K]; K a multiple of 16. NaN where s is NaN; the sign of zero is kept.
    An `out` whose address is not a multiple of a block (32 bytes; 64 for float32) gets normal stores.
    Raises ValueError naming the tensor that has another dtype, shape or device, or is not contiguous.
    """
    n, k = require_nvfp4(codes, block_scales_bytes)
    require("out", out, (torch.bfloat16, torch.float16, torch.float32), (n, k))
    planes = result_planes(float(global_scale), divide, out.dtype)
    width = out.element_size() * BLOCK
    streaming = config.streaming and out.data_ptr() % width == 0
    chunk = share(config, out.numel() * out.element_size()) // width
    launch(_dequantize, config, bits(codes), bits(block_scales_bytes), planes, bits(out), chunk, streaming)
    return out
