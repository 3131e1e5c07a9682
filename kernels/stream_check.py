"""Replays a stream operation and counts wrong elements, in chunks, on the tensor's own device.

The inputs are `fill`'s: index-dependent and without a period, so that an element from any other place, from an earlier
seed or from poisoned memory shows.
"""

from collections.abc import Iterator, Sequence

import torch

from roofprobe.kernels.stream_torch import HASH

# Elements at a time, with three to five temporaries of 4 bytes each. A CPU's stay in its L2 cache: 0.6 to 0.9 s for
# 1 GiB on two x86-64 cores against 2.8 s with 2^20, where the allocator maps fresh pages for each temporary. A
# GPU's hide the launches: 40 MiB in all.
CPU_CHUNK = 1 << 15
GPU_CHUNK = 1 << 21
SEEDS = {"read": 1, "copy": 1, "write": 1, "triad": 2}


def count_wrong(op: str, out: torch.Tensor, n: int, seeds: Sequence[int], scalar: float = 3.0) -> int:
    """How many of the n elements of `out` differ in any bit from the operation's answer; for read 1 if the sum differs.

    seeds: of `fill` for read's and copy's source, of `fill` for triad's b and c, of `write` itself.
    Raises ValueError for an unknown operation, a wrong number of seeds, or an `out` of another length (read: empty).
    """
    if op not in SEEDS:
        raise ValueError(f"op: expected one of {', '.join(SEEDS)}, got {op!r}")
    if len(seeds) != SEEDS[op]:
        raise ValueError(f"seeds: expected {SEEDS[op]} for {op}, got {len(seeds)}")
    if op == "read":
        return _wrong_sum(out, n, seeds[0])
    if out.numel() != n:
        raise ValueError(f"out: expected {n} elements, got {out.numel()}")
    bits = out.view(torch.int32)
    wrong = torch.zeros((), dtype=torch.int64, device=out.device)
    patterns = zip(*(_patterns(n, seed, out.device) for seed in seeds), strict=True)
    start = 0
    for chunk in patterns:
        expected = _expected(op, chunk, scalar)
        wrong += torch.count_nonzero(bits[start : start + expected.numel()] != expected)
        start += expected.numel()
    return int(wrong)


def _expected(op: str, patterns: Sequence[torch.Tensor], scalar: float) -> torch.Tensor:
    """The answer's bits, from the 32-bit patterns of each seed."""
    if op == "write":
        return patterns[0]
    inputs = [_filled(pattern) for pattern in patterns]
    return (inputs[0] + scalar * inputs[1] if op == "triad" else inputs[0]).view(torch.int32)


def _wrong_sum(partials: torch.Tensor, n: int, seed: int) -> int:
    if partials.numel() == 0:
        raise ValueError("out: expected at least one partial sum, got none")
    expected = torch.zeros((), dtype=torch.int64, device=partials.device)
    for pattern in _patterns(n, seed, partials.device):
        expected += _filled(pattern).view(torch.int32).sum(dtype=torch.int64)
    difference = partials.sum(dtype=torch.int64) - expected
    return int((difference & 0xFFFFFFFF) != 0)


def _filled(pattern: torch.Tensor) -> torch.Tensor:
    return ((pattern >> 12) & 0xFFFFF).to(torch.float32)


def _patterns(n: int, seed: int, device: torch.device) -> Iterator[torch.Tensor]:
    """Chunks of uint32(i) * HASH + seed modulo 2^32, as int32, whose sums wrap."""
    size = CPU_CHUNK if device.type == "cpu" else GPU_CHUNK
    first = (torch.arange(min(n, size), dtype=torch.int64, device=device) * HASH).to(torch.int32)
    for start in range(0, n, size):
        offset = (start * HASH + seed) & 0xFFFFFFFF
        yield first[: n - start] + (offset - ((offset & 0x80000000) << 1))
