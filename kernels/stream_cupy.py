"""Read and copy in CUDA C++, compiled by NVRTC through CuPy: a second opinion on Triton's memory ceiling.

    read   out[block] = sum of the 32-bit words that the block read, modulo 2^32
    copy   out[i] = source[i]

Each thread moves four 16-byte vectors a step, grid-strided, so that enough loads are in flight to cover LPDDR5X's
latency; offsets are 64 bits wide. Tensors are float32 or int32, contiguous, 16-byte aligned, with a multiple of 4
elements.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

THREADS = 256
BLOCKS_PER_MULTIPROCESSOR = 8

SOURCE = r"""
typedef unsigned int u32;

extern "C" __global__ void read_words(const uint4* __restrict__ source, long long vectors, u32* __restrict__ out) {
    u32 sum = 0;
    const long long step = (long long)gridDim.x * blockDim.x;
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    for (; i + 3 * step < vectors; i += 4 * step) {
        const uint4 a = source[i], b = source[i + step], c = source[i + 2 * step], d = source[i + 3 * step];
        sum += a.x + a.y + a.z + a.w + b.x + b.y + b.z + b.w;
        sum += c.x + c.y + c.z + c.w + d.x + d.y + d.z + d.w;
    }
    for (; i < vectors; i += step) {
        const uint4 a = source[i];
        sum += a.x + a.y + a.z + a.w;
    }
    for (int lane = 16; lane > 0; lane /= 2) sum += __shfl_down_sync(0xffffffffu, sum, lane);
    __shared__ u32 warps[32];
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int warp = 1; warp < blockDim.x / 32; ++warp) sum += warps[warp];
        out[blockIdx.x] = sum;
    }
}

extern "C" __global__ void copy_words(const uint4* __restrict__ source, long long vectors, uint4* __restrict__ out) {
    const long long step = (long long)gridDim.x * blockDim.x;
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    for (; i + 3 * step < vectors; i += 4 * step) {
        const uint4 a = source[i], b = source[i + step], c = source[i + 2 * step], d = source[i + 3 * step];
        out[i] = a;
        out[i + step] = b;
        out[i + 2 * step] = c;
        out[i + 3 * step] = d;
    }
    for (; i < vectors; i += step) out[i] = source[i];
}
"""


def read(source: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    """Partial sums into `out`, int32 [read_partials(source)]; raises ValueError for a tensor that it can't take."""
    _launch("read_words", source, out, blocks=out.numel())
    return out


def copy(source: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    """`source` into `out`, of as many bytes; raises ValueError for a tensor that it can't take."""
    if out.numel() != source.numel():
        raise ValueError(f"out: expected {source.numel()} elements as in source, got {out.numel()}")
    _launch("copy_words", source, out, blocks=read_partials(source))
    return out


def read_partials(source: torch.Tensor) -> int:
    """Blocks of a launch, each of which leaves one partial sum."""
    return partials_of(source.device)


def partials_of(device: torch.device) -> int:
    """Likewise, for whatever is read on this GPU."""
    multiprocessors: int = torch.cuda.get_device_properties(device).multi_processor_count
    return multiprocessors * BLOCKS_PER_MULTIPROCESSOR


def read_at(address: int, n_elements: int, out: torch.Tensor) -> torch.Tensor:
    """`read` of `n_elements` 4-byte elements at an address that the GPU can reach, wherever that memory lies.

    `out` is int32 on the GPU, one element a block; raises ValueError for an address or a length that it can't take.
    """
    if address % 16 or n_elements % 4 or n_elements <= 0:
        raise ValueError(
            f"address: expected 16-byte alignment and a multiple of 4 elements, got {address:#x} and {n_elements}"
        )
    _start("read_words", address, n_elements // 4, out, out.numel())
    return out


def _launch(kernel: str, source: torch.Tensor, out: torch.Tensor, blocks: int) -> None:
    for name, tensor in (("source", source), ("out", out)):
        if not tensor.is_cuda or tensor.element_size() != 4 or not tensor.is_contiguous():
            raise ValueError(f"{name}: expected a contiguous CUDA tensor of 4-byte elements, got {tensor.dtype}")
        if tensor.data_ptr() % 16:
            raise ValueError(f"{name}: expected 16-byte alignment, got address {tensor.data_ptr():#x}")
    if source.numel() % 4:
        raise ValueError(f"source: expected a multiple of 4 elements, got {source.numel()}")
    _start(kernel, source.data_ptr(), source.numel() // 4, out, blocks)


def _start(kernel: str, address: int, vectors: int, out: torch.Tensor, blocks: int) -> None:
    import cupy

    # torch's stream, so that torch's events and graphs see the launch.
    with cupy.cuda.ExternalStream(torch.cuda.current_stream(out.device).cuda_stream, out.device.index):
        arguments = (cupy.uint64(address), cupy.int64(vectors), cupy.uint64(out.data_ptr()))
        _module().get_function(kernel)((blocks,), (THREADS,), arguments)


@cache
def _module() -> Any:
    import cupy

    return cupy.RawModule(code=SOURCE, options=("--std=c++17",))
