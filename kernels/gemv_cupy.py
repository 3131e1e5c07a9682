"""y[B, N] = x[B, K] W[N, K]^T for bfloat16 in CUDA C++, compiled by NVRTC through CuPy: a baseline for Triton's GEMV.

A warp takes a row, a thread 16 bytes of it a step, and every vector of the batch meets them in registers. Sums are
float32, one a thread and vector, so 32 a row, added by a tree; the result is rounded once, to nearest even.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

THREADS = 256
VECTOR = 8
"""bfloat16 in 16 bytes: K is a multiple of it."""
MAX_BATCH = 16

SOURCE = r"""
typedef unsigned int u32;

__device__ float low(u32 pair) { return __uint_as_float(pair << 16); }
__device__ float high(u32 pair) { return __uint_as_float(pair & 0xffff0000u); }

__device__ unsigned short rounded(float value) {
    const u32 bits = __float_as_uint(value);
    if (value != value) return 0x7fc0;
    return (unsigned short)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

__device__ float dot(uint4 w, uint4 x, float sum) {
    sum = fmaf(low(w.x), low(x.x), sum);
    sum = fmaf(high(w.x), high(x.x), sum);
    sum = fmaf(low(w.y), low(x.y), sum);
    sum = fmaf(high(w.y), high(x.y), sum);
    sum = fmaf(low(w.z), low(x.z), sum);
    sum = fmaf(high(w.z), high(x.z), sum);
    sum = fmaf(low(w.w), low(x.w), sum);
    return fmaf(high(w.w), high(x.w), sum);
}

extern "C" __global__ void gemv(const uint4* __restrict__ weight, const uint4* __restrict__ x,
                                unsigned short* __restrict__ y, long long n, int vectors) {
    const long long row = ((long long)blockIdx.x * blockDim.x + threadIdx.x) / 32;
    const int lane = threadIdx.x % 32;
    if (row >= n) return;
    const uint4* w = weight + row * vectors;
    float sums[BATCH];
    for (int b = 0; b < BATCH; ++b) sums[b] = 0;
#pragma unroll 4
    for (int i = lane; i < vectors; i += 32) {
        const uint4 eight = w[i];
#pragma unroll
        for (int b = 0; b < BATCH; ++b) sums[b] = dot(eight, x[(long long)b * vectors + i], sums[b]);
    }
#pragma unroll
    for (int b = 0; b < BATCH; ++b) {
        for (int other = 16; other > 0; other /= 2) sums[b] += __shfl_xor_sync(0xffffffffu, sums[b], other);
        if (lane == 0) y[b * n + row] = rounded(sums[b]);
    }
}
"""


def gemv(weight: torch.Tensor, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    """x [B, K] times weight [N, K] into out [B, N], all bfloat16; K a multiple of 8, B from 1 to 16.

    Raises ValueError for tensors that it can't take.
    """
    n, k = weight.shape
    batch = x.shape[0]
    for name, tensor, shape in (("weight", weight, (n, k)), ("x", x, (batch, k)), ("out", out, (batch, n))):
        if not tensor.is_cuda or tensor.dtype != torch.bfloat16 or not tensor.is_contiguous():
            raise ValueError(f"{name}: expected a contiguous CUDA tensor of bfloat16, got {tensor.dtype}")
        if tuple(tensor.shape) != shape or tensor.data_ptr() % 16:
            raise ValueError(f"{name}: expected shape {list(shape)}, 16-byte aligned, got {list(tensor.shape)}")
    if k % VECTOR or not 1 <= batch <= MAX_BATCH:
        raise ValueError(f"x: expected K a multiple of {VECTOR} and a batch of 1 to {MAX_BATCH}, got {list(x.shape)}")
    import cupy

    # torch's stream, so that torch's events and graphs see the launch.
    with cupy.cuda.ExternalStream(torch.cuda.current_stream(weight.device).cuda_stream, weight.device.index):
        blocks = -(-n * 32 // THREADS)
        pointers = tuple(cupy.uint64(tensor.data_ptr()) for tensor in (weight, x, out))
        _kernel(batch)((blocks,), (THREADS,), (*pointers, cupy.int64(n), cupy.int32(k // VECTOR)))
    return out


@cache
def _kernel(batch: int) -> Any:
    import cupy

    return cupy.RawKernel(SOURCE, "gemv", options=("--std=c++17", f"-DBATCH={batch}"))
