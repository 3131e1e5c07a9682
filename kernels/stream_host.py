"""The STREAM operations on the CPU: fill, read, copy, write and triad over 1-D tensors of 32-bit elements.

Each worker takes chunks of the array from a shared counter and moves them 256 bytes a step. The chunks begin at the
first 64-byte boundary of the output (of the input, for read); whoever takes the first one also does both ends,
element by element. Formulas, byte counts and checks are beside the dispatch in stream.py.

All functions raise ValueError for a tensor of another dtype, shape or device, or one that is not contiguous.
"""

from typing import Any

from numba import prange
import numpy as np
import torch

from roofprobe.kernels.host_memory import bits, floats, require
from roofprobe.kernels.host_threads import HostConfig, host_kernel, launch, share
from roofprobe.kernels.vector_ir import address, fence, fetch_add, load, pin_to, store, stream
from roofprobe.kernels.vector_math import lane_numbers, splat, to_float, total

HASH = 2654435761  # Knuth's multiplicative hash: 2^32 over the golden ratio
READ_PARTIALS = 64
STEP = 64  # elements: four 64-byte vectors
DEFAULT = HostConfig()


def _chunk(config: HostConfig, array: torch.Tensor) -> int:
    return share(config, 4 * array.numel()) // 4


@host_kernel()
def _body(first_byte: int, n: int) -> tuple[int, int]:
    """First element on a 64-byte boundary, and the end of the last whole step from there."""
    begin = min(n, (-first_byte % 64) // 4)
    return begin, begin + (n - begin) // STEP * STEP


@host_kernel()
def _put(out: Any, i: int, vector: Any, streaming: bool) -> None:
    if streaming:
        stream(out, i, vector)
    else:
        store(out, i, vector)


@host_kernel()
def _copy_worker(counter: Any, source: Any, out: Any, chunk: int, streaming: bool) -> None:
    begin, end = _body(address(out), out.size)
    start = fetch_add(counter, 0, chunk)
    if start == 0:
        for i in range(begin):
            out[i] = source[i]
        for i in range(end, out.size):
            out[i] = source[i]
    while begin + start < end:
        for i in range(begin + start, min(begin + start + chunk, end), STEP):
            for j in range(i, i + STEP, 16):
                _put(out, j, load(source, j), streaming)
        start = fetch_add(counter, 0, chunk)
    fence()


@host_kernel(parallel=True)
def _copy(cpus: Any, counter: Any, source: Any, out: Any, chunk: int, streaming: bool) -> None:
    for worker in prange(cpus.size):
        pin_to(cpus[worker])
        _copy_worker(counter, source, out, chunk, streaming)


def copy(source: torch.Tensor, out: torch.Tensor, config: HostConfig = DEFAULT) -> torch.Tensor:
    """out[i] = source[i]; both [n] of the same 32-bit dtype."""
    require("source", source, (torch.float32, torch.int32), (None,))
    require("out", out, (source.dtype,), (source.numel(),))
    launch(_copy, config, bits(source), bits(out), _chunk(config, out), config.streaming)
    return out


@host_kernel()
def _triad_worker(counter: Any, b: Any, c: Any, scalar: Any, out: Any, chunk: int, streaming: bool) -> None:
    begin, end = _body(address(out), out.size)
    start = fetch_add(counter, 0, chunk)
    if start == 0:
        for i in range(begin):
            out[i] = b[i] + scalar * c[i]
        for i in range(end, out.size):
            out[i] = b[i] + scalar * c[i]
    scalars = splat(scalar)
    while begin + start < end:
        for i in range(begin + start, min(begin + start + chunk, end), STEP):
            for j in range(i, i + STEP, 16):
                _put(out, j, load(b, j) + scalars * load(c, j), streaming)
        start = fetch_add(counter, 0, chunk)
    fence()


@host_kernel(parallel=True)
def _triad(cpus: Any, counter: Any, b: Any, c: Any, scalar: Any, out: Any, chunk: int, streaming: bool) -> None:
    for worker in prange(cpus.size):
        pin_to(cpus[worker])
        _triad_worker(counter, b, c, scalar, out, chunk, streaming)


def triad(
    b: torch.Tensor, c: torch.Tensor, scalar: float, out: torch.Tensor, config: HostConfig = DEFAULT
) -> torch.Tensor:
    """out[i] = b[i] + scalar * c[i], product and sum each rounded to float32; all [n] float32."""
    require("b", b, (torch.float32,), (None,))
    require("c", c, (torch.float32,), (b.numel(),))
    require("out", out, (torch.float32,), (b.numel(),))
    factor = np.float32(scalar)
    launch(_triad, config, floats(b), floats(c), factor, floats(out), _chunk(config, out), config.streaming)
    return out


@host_kernel()
def _hash(i: int, seed: Any) -> Any:
    return np.uint32(i * HASH + seed)


@host_kernel()
def _hash_lanes(i: int, seed: Any) -> Any:
    return splat(_hash(i, seed)) + splat(np.uint32(HASH)) * lane_numbers()


@host_kernel()
def _write_worker(counter: Any, out: Any, seed: Any, chunk: int, streaming: bool) -> None:
    begin, end = _body(address(out), out.size)
    start = fetch_add(counter, 0, chunk)
    if start == 0:
        for i in range(begin):
            out[i] = _hash(i, seed)
        for i in range(end, out.size):
            out[i] = _hash(i, seed)
    while begin + start < end:
        for i in range(begin + start, min(begin + start + chunk, end), STEP):
            for j in range(i, i + STEP, 16):
                _put(out, j, _hash_lanes(j, seed), streaming)
        start = fetch_add(counter, 0, chunk)
    fence()


@host_kernel(parallel=True)
def _write(cpus: Any, counter: Any, out: Any, seed: Any, chunk: int, streaming: bool) -> None:
    for worker in prange(cpus.size):
        pin_to(cpus[worker])
        _write_worker(counter, out, seed, chunk, streaming)


def write(out: torch.Tensor, seed: int, config: HostConfig = DEFAULT) -> torch.Tensor:
    """bits(out[i]) = i * HASH + seed modulo 2^32; out [n] int32."""
    require("out", out, (torch.int32,), (None,))
    launch(_write, config, bits(out), np.uint32(seed & 0xFFFFFFFF), _chunk(config, out), config.streaming)
    return out


@host_kernel()
def _fill_worker(counter: Any, out: Any, seed: Any, chunk: int, streaming: bool) -> None:
    begin, end = _body(address(out), out.size)
    start = fetch_add(counter, 0, chunk)
    if start == 0:
        for i in range(begin):
            out[i] = np.float32(_hash(i, seed) >> 12)
        for i in range(end, out.size):
            out[i] = np.float32(_hash(i, seed) >> 12)
    while begin + start < end:
        for i in range(begin + start, min(begin + start + chunk, end), STEP):
            for j in range(i, i + STEP, 16):
                _put(out, j, to_float(_hash_lanes(j, seed) >> 12), streaming)
        start = fetch_add(counter, 0, chunk)
    fence()


@host_kernel(parallel=True)
def _fill(cpus: Any, counter: Any, out: Any, seed: Any, chunk: int, streaming: bool) -> None:
    for worker in prange(cpus.size):
        pin_to(cpus[worker])
        _fill_worker(counter, out, seed, chunk, streaming)


def fill(out: torch.Tensor, seed: int, config: HostConfig = DEFAULT) -> torch.Tensor:
    """out[i] = float32((i * HASH + seed modulo 2^32) >> 12): integers below 2^20; out [n] float32."""
    require("out", out, (torch.float32,), (None,))
    launch(_fill, config, floats(out), np.uint32(seed & 0xFFFFFFFF), _chunk(config, out), config.streaming)
    return out


@host_kernel()
def _read_worker(counter: Any, source: Any, out: Any, chunk: int) -> None:
    begin, end = _body(address(source), source.size)
    start = fetch_add(counter, 0, chunk)
    if start == 0:
        ends = np.uint32(0)
        for i in range(begin):
            ends += source[i]
        for i in range(end, source.size):
            ends += source[i]
        fetch_add(out, 0, np.uint32(ends))
    while begin + start < end:
        sum0 = sum1 = sum2 = sum3 = splat(np.uint32(0))
        for i in range(begin + start, min(begin + start + chunk, end), STEP):
            sum0 += load(source, i)
            sum1 += load(source, i + 16)
            sum2 += load(source, i + 32)
            sum3 += load(source, i + 48)
        fetch_add(out, start // chunk % out.size, total((sum0 + sum1) + (sum2 + sum3)))
        start = fetch_add(counter, 0, chunk)
    fence()


@host_kernel(parallel=True)
def _read(cpus: Any, counter: Any, source: Any, out: Any, chunk: int) -> None:
    for worker in prange(cpus.size):
        pin_to(cpus[worker])
        _read_worker(counter, source, out, chunk)


def read_partials(config: HostConfig = DEFAULT) -> int:  # noqa: ARG001 (other backends' depends on it)
    """Length of read's `out`: the same for every config."""
    return READ_PARTIALS


def read(source: torch.Tensor, out: torch.Tensor, config: HostConfig = DEFAULT) -> torch.Tensor:
    """Sums of bits(source[i]) modulo 2^32, chunk c into out[c % READ_PARTIALS]; their sum is the checksum.

    source [n] float32 or int32, out int32 [READ_PARTIALS], overwritten.
    """
    require("source", source, (torch.float32, torch.int32), (None,))
    require("out", out, (torch.int32,), (READ_PARTIALS,))
    launch(_read, config, bits(source), bits(out.zero_()), _chunk(config, source))
    return out
