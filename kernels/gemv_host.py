"""y = W x on the CPU for 1 to 16 vectors x: bfloat16 weights, and NVFP4 weights decoded on the way.

One vector: while x stays in the L1 cache (K to 4096) one row at a time, so that the weights are one long stream; above
that four, which share each read of x. One Zen 4 core that reads 33 GB/s gets 32 (one) and 13 (four) at K = 1024,
13 and 21 at K = 8192. More vectors: a tile of a row is widened to float32 once, stays in the L1 cache and meets
the vectors two at a time. Every sum has at least 32 accumulators, added by a fixed tree, so the result never depends
on the threads' timing. NVFP4's global scale is applied last and once: q * s is exact in bfloat16.

On a CPU the NVFP4 kernel is bound by its decoding and not by memory (9 GB/s on that core): say so beside its share of
the memory ceiling.
"""

# ruff: noqa: ARG001 (the functions behind an overload share one list of parameters)

from typing import Any

from numba import prange
from numba.extending import overload
import numpy as np
import torch

from roofprobe.kernels.dequant_host import require_nvfp4, result_planes
from roofprobe.kernels.host_memory import bits, floats, require
from roofprobe.kernels.host_threads import HostConfig, host_kernel, launch, share
from roofprobe.kernels.vector_ir import address, fence, fetch_add, load, load_nibbles, pin_to, store
from roofprobe.kernels.vector_math import fma, from_bf16, interleave, look_up, splat, total

MAX_BATCH = 16
RESIDENT = 4096  # float32 of x: half of the smallest L1 data cache in use
TILE = 2048  # weights: 8 KiB of float32, a quarter of the smallest L1 data cache in use
DEFAULT = HostConfig()


def _weights(weight: Any, scales: Any, planes: Any, i: Any) -> Any:
    """Inside a kernel: weights i to i + 15 as float32, without the global scale."""


def _bf16_weights(weight: Any, scales: Any, planes: Any, i: Any) -> Any:
    return from_bf16(load(weight, i))


def _nvfp4_weights(weight: Any, scales: Any, planes: Any, i: Any) -> Any:
    nibbles = load_nibbles(weight, i >> 1)
    row = np.int64(scales[np.uint64(i >> 4)]) * 32
    return from_bf16(interleave(look_up(load(planes, row), nibbles), look_up(load(planes, row + 16), nibbles)))


def _choose_weights(weight: Any, scales: Any, planes: Any, i: Any) -> Any:
    return _bf16_weights if weight.dtype.bitwidth == 16 else _nvfp4_weights


overload(_weights)(_choose_weights)


@host_kernel()
def _one_row(weight: Any, scales: Any, planes: Any, a: int, k: int, x: Any) -> Any:
    """The k weights from a on times the vector at the start of x."""
    sum0 = sum1 = sum2 = sum3 = splat(np.float32(0))
    whole = k // 64 * 64
    for j in range(0, whole, 64):
        sum0 = fma(_weights(weight, scales, planes, a + j), load(x, j), sum0)
        sum1 = fma(_weights(weight, scales, planes, a + j + 16), load(x, j + 16), sum1)
        sum2 = fma(_weights(weight, scales, planes, a + j + 32), load(x, j + 32), sum2)
        sum3 = fma(_weights(weight, scales, planes, a + j + 48), load(x, j + 48), sum3)
    for j in range(whole, k // 16 * 16, 16):
        sum0 = fma(_weights(weight, scales, planes, a + j), load(x, j), sum0)
    tail = np.float32(0)
    for j in range(k // 16 * 16, k):  # bfloat16 only
        tail += from_bf16(weight[a + j]) * x[j]
    return total((sum0 + sum1) + (sum2 + sum3)) + tail


@host_kernel()
def _four_rows(weight: Any, scales: Any, planes: Any, a: int, k: int, x: Any) -> tuple[Any, Any, Any, Any]:
    """Rows a, a + k, a + 2k and a + 3k as in _one_row; k a multiple of 32."""
    b, c, d = a + k, a + 2 * k, a + 3 * k
    a0 = a1 = b0 = b1 = c0 = c1 = d0 = d1 = splat(np.float32(0))
    for j in range(0, k, 32):
        x0, x1 = load(x, j), load(x, j + 16)
        a0 = fma(_weights(weight, scales, planes, a + j), x0, a0)
        b0 = fma(_weights(weight, scales, planes, b + j), x0, b0)
        c0 = fma(_weights(weight, scales, planes, c + j), x0, c0)
        d0 = fma(_weights(weight, scales, planes, d + j), x0, d0)
        a1 = fma(_weights(weight, scales, planes, a + j + 16), x1, a1)
        b1 = fma(_weights(weight, scales, planes, b + j + 16), x1, b1)
        c1 = fma(_weights(weight, scales, planes, c + j + 16), x1, c1)
        d1 = fma(_weights(weight, scales, planes, d + j + 16), x1, d1)
    return total(a0 + a1), total(b0 + b1), total(c0 + c1), total(d0 + d1)


@host_kernel()
def _vector_worker(
    counter: Any, weight: Any, scales: Any, planes: Any, g: Any, divide: bool, x: Any, k: int, out: Any, chunk: int
) -> None:
    together = k > RESIDENT and k % 32 == 0
    start = fetch_add(counter, 0, chunk)
    while start < out.size:
        row, end = start, min(start + chunk, out.size)
        while row < end:
            if together and row + 4 <= end:
                out[row], out[row + 1], out[row + 2], out[row + 3] = _four_rows(weight, scales, planes, row * k, k, x)
                row += 4
            else:
                out[row] = _one_row(weight, scales, planes, row * k, k, x)
                row += 1
        for i in range(start, end):
            out[i] = out[i] / g if divide else out[i] * g
        start = fetch_add(counter, 0, chunk)
    fence()


@host_kernel(parallel=True)
def _vector(
    cpus: Any,
    counter: Any,
    weight: Any,
    scales: Any,
    planes: Any,
    g: Any,
    divide: bool,
    x: Any,
    k: int,
    out: Any,
    chunk: int,
) -> None:
    for worker in prange(cpus.size):
        pin_to(cpus[worker])
        _vector_worker(counter, weight, scales, planes, g, divide, x, k, out, chunk)


@host_kernel()
def _widen(weight: Any, scales: Any, planes: Any, first: int, width: int, tile: Any) -> None:
    """tile[j] = weight first + j for j < width, then zeros to a multiple of 32."""
    whole = width // 16 * 16
    for j in range(0, whole, 16):
        store(tile, j, _weights(weight, scales, planes, first + j))
    for j in range(whole, width):  # bfloat16 only
        tile[j] = from_bf16(weight[first + j])
    for j in range(width, _pad(width)):
        tile[j] = 0


@host_kernel()
def _scratch(size: int) -> Any:
    """float32 [size] on a cache line: a vector that straddles two costs two loads."""
    room = np.empty(size + 16, dtype=np.float32)
    first = (-address(room) % 64) // 4
    return room[first : first + size]


@host_kernel()
def _pad(k: int) -> int:
    return (k + 31) // 32 * 32


@host_kernel()
def _batch_worker(
    counter: Any,
    weight: Any,
    scales: Any,
    planes: Any,
    g: Any,
    divide: bool,
    x: Any,
    k: int,
    batch: int,
    out: Any,
    chunk: int,
) -> None:
    n, stride = out.size // batch, _pad(k)
    tile, sums = _scratch(TILE), _scratch((batch + 1) * 32)
    start = fetch_add(counter, 0, chunk)
    while start < n:
        for row in range(start, min(start + chunk, n)):
            sums[:] = 0
            for left in range(0, k, TILE):
                width = min(TILE, k - left)
                _widen(weight, scales, planes, row * k + left, width, tile)
                for vector in range(0, batch, 2):
                    _accumulate(tile, _pad(width), x, vector * stride + left, stride, sums, vector * 32)
            for vector in range(batch):
                y = total(load(sums, vector * 32) + load(sums, vector * 32 + 16))
                out[vector * n + row] = y / g if divide else y * g
        start = fetch_add(counter, 0, chunk)
    fence()


@host_kernel()
def _accumulate(tile: Any, width: int, x: Any, first: int, stride: int, sums: Any, at: int) -> None:
    """Add tile times the two vectors at `first` and `first + stride` of x to the 2 x 32 accumulators at sums[at]."""
    a0, a1, b0, b1 = load(sums, at), load(sums, at + 16), load(sums, at + 32), load(sums, at + 48)
    for j in range(0, width, 32):
        w0, w1 = load(tile, j), load(tile, j + 16)
        a0 = fma(w0, load(x, first + j), a0)
        a1 = fma(w1, load(x, first + j + 16), a1)
        b0 = fma(w0, load(x, first + stride + j), b0)
        b1 = fma(w1, load(x, first + stride + j + 16), b1)
    store(sums, at, a0)
    store(sums, at + 16, a1)
    store(sums, at + 32, b0)
    store(sums, at + 48, b1)


@host_kernel(parallel=True)
def _batch(
    cpus: Any,
    counter: Any,
    weight: Any,
    scales: Any,
    planes: Any,
    g: Any,
    divide: bool,
    x: Any,
    k: int,
    batch: int,
    out: Any,
    chunk: int,
) -> None:
    for worker in prange(cpus.size):
        pin_to(cpus[worker])
        _batch_worker(counter, weight, scales, planes, g, divide, x, k, batch, out, chunk)


def _padded(x: torch.Tensor) -> Any:
    """x as float32, zero-padded to an even number of vectors of a multiple of 32, flat."""
    batch, k = x.shape
    values = floats(x) if x.dtype == torch.float32 else (bits(x).astype(np.uint32) << 16).view(np.float32)
    vectors, stride = (batch + 1) // 2 * 2, (k + 31) // 32 * 32
    room = np.zeros(vectors * stride + 16, dtype=np.float32)
    padded = room[-room.ctypes.data % 64 // 4 :][: vectors * stride]  # on a cache line, as in _scratch
    padded.reshape(vectors, stride)[:batch, :k] = values.reshape(batch, k)
    return padded


def _run(
    weight: torch.Tensor,
    scales: Any,
    planes: Any,
    global_scale: float,
    divide: bool,
    x: torch.Tensor,
    out: torch.Tensor,
    config: HostConfig,
) -> torch.Tensor:
    n, k = weight.shape[0], x.shape[1]
    row_bytes = max(1, weight.shape[1] * weight.element_size())
    chunk = max(1, share(config, n * row_bytes) // row_bytes)
    common = (bits(weight), scales, planes, np.float32(global_scale), divide, _padded(x), k)
    if x.shape[0] == 1:
        launch(_vector, config, *common, floats(out), chunk)
    else:
        launch(_batch, config, *common, x.shape[0], floats(out), chunk)
    return out


def _require_vectors(x: torch.Tensor, out: torch.Tensor, n: int, k: int) -> None:
    require("x", x, (torch.bfloat16, torch.float32), (None, k))
    if not 1 <= x.shape[0] <= MAX_BATCH:
        raise ValueError(f"x: expected 1 to {MAX_BATCH} vectors, got {x.shape[0]}")
    require("out", out, (torch.float32,), (x.shape[0], n))


def gemv_bf16(weight: torch.Tensor, x: torch.Tensor, out: torch.Tensor, config: HostConfig = DEFAULT) -> torch.Tensor:
    """out[b, n] = sum over k of weight[n, k] * x[b, k], accumulated in float32.

    weight bfloat16 [N, K], x bfloat16 or float32 [B, K] with B from 1 to 16, out float32 [B, N]; any N and K.
    Raises ValueError naming the tensor that has another dtype, shape or device, or is not contiguous.
    """
    require("weight", weight, (torch.bfloat16,), (None, None))
    _require_vectors(x, out, *weight.shape)
    nothing = np.empty(0, dtype=np.uint8)
    return _run(weight, nothing, nothing, 1.0, False, x, out, config)


def gemv_nvfp4(
    codes: torch.Tensor,
    block_scales_bytes: torch.Tensor,
    global_scale: float,
    divide: bool,
    x: torch.Tensor,
    out: torch.Tensor,
    config: HostConfig = DEFAULT,
) -> torch.Tensor:
    """out[b, n] = g * sum over k of q[n, k] * s[n, k // 16] * x[b, k] (`divide`: the sum / g), in float32.

    codes uint8 [N, K/2] (even k in the low nibble), block_scales_bytes uint8 [N, K/16] (the E4M3FN bytes, linear),
    x bfloat16 or float32 [B, K] with B from 1 to 16, out float32 [B, N]; K a multiple of 16.
    Raises ValueError naming the tensor that has another dtype, shape or device, or is not contiguous.
    """
    n, k = require_nvfp4(codes, block_scales_bytes)
    _require_vectors(x, out, n, k)
    planes = result_planes(1.0, False, torch.bfloat16)
    return _run(codes, bits(block_scales_bytes), planes, global_scale, divide, x, out, config)
