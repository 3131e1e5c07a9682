"""Rows of weights times vectors on the CPU: what gemv_host.py and grouped_gemv_host.py run.

One vector: while x stays in the L1 cache (K to 4096) one row at a time, so that the weights are one long stream; above
that four, which share each read of x. One Zen 4 core that reads 33 GB/s gets 32 (one) and 13 (four) at K = 1024,
13 and 21 at K = 8192. More vectors: a tile of a row is decoded to float32 once, stays in the L1 cache and meets
the vectors two at a time. Every sum has at least 32 accumulators, added by a fixed tree, so the result never depends
on the threads' timing. The last scale is applied to the sum, once.
"""

from typing import Any, NamedTuple

from numba import prange
import numpy as np
import torch

from roofprobe.kernels.host_memory import bits, floats
from roofprobe.kernels.host_threads import HostConfig, host_kernel, launch, share
from roofprobe.kernels.vector_ir import address, fence, fetch_add, load, pin_to, store
from roofprobe.kernels.vector_math import fma, splat, total
from roofprobe.kernels.weights_host import first_products, products, scale_row

RESIDENT = 4096  # float32 of x: half of the smallest L1 data cache in use
TILE = 2048  # weights: 8 KiB of float32, a quarter of the smallest L1 data cache in use


class Groups(NamedTuple):
    """Which matrix of a stack meets which vectors.

    Group g has matrix matrices[g] and pairs begins[g] to begins[g + 1] - 1: each is vector vectors[p] of x, and its
    product is row places[p] of the result. All int64: [G], [G + 1], [P], [P].
    """

    matrices: Any
    begins: Any
    vectors: Any
    places: Any


class Job(NamedTuple):
    """What to multiply, beside the weights.

    n, k: of one matrix. The next four as in Groups. x: float32, flat, its vectors padded to a multiple of 32; vector
    `zeros` is all zeros. factors: float32, the last scale of each matrix, or with `by_row` of each row of each;
    `divide` divides by it. out: float32, rows of n.
    """

    n: int
    k: int
    matrices: Any
    begins: Any
    vectors: Any
    places: Any
    x: Any
    zeros: int
    factors: Any
    by_row: bool
    divide: bool
    out: Any


@host_kernel()
def _one_row(weight: Any, row: int, k: int, x: Any, at: int) -> Any:
    """That row times the vector at x[at]."""
    first, scales = row * k, scale_row(weight, row, k)
    sum0 = sum1 = sum2 = sum3 = splat(np.float32(0))
    steps, whole = k // 64 * 64, k // 16 * 16
    for j in range(0, steps, 64):
        sum0 = fma(products(weight, first, scales, j), load(x, at + j), sum0)
        sum1 = fma(products(weight, first, scales, j + 16), load(x, at + j + 16), sum1)
        sum2 = fma(products(weight, first, scales, j + 32), load(x, at + j + 32), sum2)
        sum3 = fma(products(weight, first, scales, j + 48), load(x, at + j + 48), sum3)
    for j in range(steps, whole, 16):
        sum0 = fma(products(weight, first, scales, j), load(x, at + j), sum0)
    if whole < k:
        sum1 = fma(first_products(weight, first, scales, whole, k - whole), load(x, at + whole), sum1)
    return total((sum0 + sum1) + (sum2 + sum3))


@host_kernel()
def _four_rows(weight: Any, row: int, k: int, x: Any, at: int) -> tuple[Any, Any, Any, Any]:
    """That row and the next three as in _one_row; k a multiple of 32."""
    a, b, c, d = row * k, (row + 1) * k, (row + 2) * k, (row + 3) * k
    a_scales, b_scales = scale_row(weight, row, k), scale_row(weight, row + 1, k)
    c_scales, d_scales = scale_row(weight, row + 2, k), scale_row(weight, row + 3, k)
    a0 = a1 = b0 = b1 = c0 = c1 = d0 = d1 = splat(np.float32(0))
    for j in range(0, k, 32):
        x0, x1 = load(x, at + j), load(x, at + j + 16)
        a0 = fma(products(weight, a, a_scales, j), x0, a0)
        b0 = fma(products(weight, b, b_scales, j), x0, b0)
        c0 = fma(products(weight, c, c_scales, j), x0, c0)
        d0 = fma(products(weight, d, d_scales, j), x0, d0)
        a1 = fma(products(weight, a, a_scales, j + 16), x1, a1)
        b1 = fma(products(weight, b, b_scales, j + 16), x1, b1)
        c1 = fma(products(weight, c, c_scales, j + 16), x1, c1)
        d1 = fma(products(weight, d, d_scales, j + 16), x1, d1)
    return total(a0 + a1), total(b0 + b1), total(c0 + c1), total(d0 + d1)


@host_kernel()
def _times_one(weight: Any, job: Job, group: int, begin: int, end: int) -> None:
    """Rows begin to end - 1 of the group's matrix times its only vector."""
    k, pair, offset = job.k, job.begins[group], job.matrices[group] * job.n
    at, to = job.vectors[pair] * _pad(k), job.places[pair] * job.n
    together = k > RESIDENT and k % 32 == 0
    out, row = job.out, begin
    while row < end:
        if together and row + 4 <= end:
            sums = _four_rows(weight, offset + row, k, job.x, at)
            out[to + row], out[to + row + 1], out[to + row + 2], out[to + row + 3] = sums
            row += 4
        else:
            out[to + row] = _one_row(weight, offset + row, k, job.x, at)
            row += 1
    for i in range(begin, end):
        out[to + i] = _scaled(job, out[to + i], group, i)


@host_kernel()
def _scaled(job: Job, y: Any, group: int, row: int) -> Any:
    matrix = job.matrices[group]
    factor = job.factors[matrix * job.n + row if job.by_row else matrix]
    return y / factor if job.divide else y * factor


@host_kernel()
def _decode(weight: Any, first: int, scales: int, left: int, width: int, tile: Any) -> None:
    """tile[j] = weight left + j of the row for j < width, then zeros to a multiple of 32."""
    whole = width // 16 * 16
    for j in range(0, whole, 16):
        store(tile, j, products(weight, first, scales, left + j))
    for j in range(whole, _pad(width), 16):
        store(tile, j, splat(np.float32(0)))
    if whole < width:
        store(tile, whole, first_products(weight, first, scales, left + whole, width - whole))


@host_kernel()
def _times_several(weight: Any, job: Job, group: int, begin: int, end: int, tile: Any, sums: Any) -> None:
    """Rows begin to end - 1 of the group's matrix times all its vectors: each weight is read and decoded once."""
    n, k, stride = job.n, job.k, _pad(job.k)
    first_pair, pairs = job.begins[group], job.begins[group + 1] - job.begins[group]
    for i in range(begin, end):
        row = job.matrices[group] * n + i
        scales = scale_row(weight, row, k)
        sums[: (pairs + 1) * 32] = 0
        for left in range(0, k, TILE):
            width = min(TILE, k - left)
            _decode(weight, row * k, scales, left, width, tile)
            for pair in range(0, pairs, 2):
                one = job.vectors[first_pair + pair]
                other = job.vectors[first_pair + pair + 1] if pair + 1 < pairs else job.zeros
                _accumulate(tile, _pad(width), job.x, one * stride + left, other * stride + left, sums, pair * 32)
        for pair in range(pairs):
            y = total(load(sums, pair * 32) + load(sums, pair * 32 + 16))
            job.out[job.places[first_pair + pair] * n + i] = _scaled(job, y, group, i)


@host_kernel()
def _accumulate(tile: Any, width: int, x: Any, one: int, other: int, sums: Any, at: int) -> None:
    """Add tile times the vectors at x[one] and x[other] to the 2 x 32 accumulators at sums[at]."""
    a0, a1, b0, b1 = load(sums, at), load(sums, at + 16), load(sums, at + 32), load(sums, at + 48)
    for j in range(0, width, 32):
        w0, w1 = load(tile, j), load(tile, j + 16)
        a0 = fma(w0, load(x, one + j), a0)
        a1 = fma(w1, load(x, one + j + 16), a1)
        b0 = fma(w0, load(x, other + j), b0)
        b1 = fma(w1, load(x, other + j + 16), b1)
    store(sums, at, a0)
    store(sums, at + 16, a1)
    store(sums, at + 32, b0)
    store(sums, at + 48, b1)


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
def _worker(counter: Any, weight: Any, job: Job, most: int, chunk: int) -> None:
    """Chunks of the rows of all groups; no group has more than `most` pairs."""
    rows = job.matrices.size * job.n
    tile, sums = _scratch(TILE), _scratch((most + 1) * 32)
    start = fetch_add(counter, 0, chunk)
    while start < rows:
        row, end = start, min(start + chunk, rows)
        while row < end:
            group = row // job.n
            offset = group * job.n
            last = min(end, offset + job.n)
            if job.begins[group + 1] - job.begins[group] == 1:
                _times_one(weight, job, group, row - offset, last - offset)
            else:
                _times_several(weight, job, group, row - offset, last - offset, tile, sums)
            row = last
        start = fetch_add(counter, 0, chunk)
    fence()


@host_kernel(parallel=True)
def _multiply(cpus: Any, counter: Any, weight: Any, job: Job, most: int, chunk: int) -> None:
    for worker in prange(cpus.size):
        pin_to(cpus[worker])
        _worker(counter, weight, job, most, chunk)


def _padded(x: torch.Tensor) -> Any:
    """x and a vector of zeros as float32, each zero-padded to a multiple of 32, flat."""
    count, k = x.shape
    values = floats(x) if x.dtype == torch.float32 else (bits(x).astype(np.uint32) << 16).view(np.float32)
    stride = (k + 31) // 32 * 32
    room = np.zeros((count + 1) * stride + 16, dtype=np.float32)
    padded = room[-room.ctypes.data % 64 // 4 :][: (count + 1) * stride]  # on a cache line, as in _scratch
    padded.reshape(count + 1, stride)[:count, :k] = values.reshape(count, k)
    return padded


def multiply(
    weight: Any,
    row_bytes: int,
    groups: Groups,
    factors: Any,
    divide: bool,
    x: torch.Tensor,
    out: torch.Tensor,
    config: HostConfig,
) -> torch.Tensor:
    """Run the job on x [vectors, K] and out [..., N]; returns out.

    weight: a tuple of weights_host.py whose rows take `row_bytes` each. factors: float32, one for each matrix of the
    stack [E], or for each row of each [E, N].
    """
    n, k = out.shape[-1], x.shape[1]
    by_row = factors.ndim == 2
    job = Job(n, k, *groups, _padded(x), len(x), factors.reshape(-1), by_row, divide, floats(out))
    chunk = max(1, share(config, groups.matrices.size * n * row_bytes) // max(1, row_bytes))
    launch(_multiply, config, weight, job, int(np.diff(groups.begins).max(initial=0)), chunk)
    return out
