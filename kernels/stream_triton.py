"""Triton kernels for the stream operations: 128-bit accesses, 64-bit offsets, one code path for every length.

I/O per element of 4 bytes: read 1 read, copy 1 read + 1 write, write 1 write, triad 2 reads + 1 write.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from roofprobe.kernels.launch import multiprocessors, power_of_two, require_aligned, require_launchable

HASH = tl.constexpr(2654435761)


@dataclass(frozen=True)
class StreamConfig:
    """warps a program, 128-bit accesses a thread and array, and, for read only, programs a multiprocessor.

    Raises ValueError for a value out of range.
    """

    warps: int = 4
    accesses: int = 4
    programs_per_multiprocessor: int = 8

    def __post_init__(self) -> None:
        power_of_two("warps", self.warps, 16)
        power_of_two("accesses", self.accesses, 16)
        if not 1 <= self.programs_per_multiprocessor <= 32:
            raise ValueError(f"programs_per_multiprocessor: expected 1 to 32, got {self.programs_per_multiprocessor}")

    @property
    def block(self) -> int:
        """Elements of 4 bytes that a program moves in one step."""
        return self.warps * 32 * 4 * self.accesses


@triton.jit
def _pattern(index, seed):
    return index.to(tl.uint32) * HASH + seed.to(tl.uint32, bitcast=True)


@triton.jit
def _load(pointer, i, n, WHOLE: tl.constexpr):
    if WHOLE:
        value = tl.load(pointer + i)
    else:
        value = tl.load(pointer + i, mask=i < n, other=0)
    return value


@triton.jit
def _store(pointer, i, value, n, WHOLE: tl.constexpr):
    if WHOLE:
        tl.store(pointer + i, value)
    else:
        tl.store(pointer + i, value, mask=i < n)


@triton.jit
def _transfer(OP: tl.constexpr, a, b, out, seed, scalar, i, n, WHOLE: tl.constexpr):
    """One block of an operation. WHOLE blocks have no mask: a mask that may end anywhere makes 32-bit accesses."""
    if OP == "fill":
        _store(out, i, (_pattern(i, seed) >> 12).to(tl.float32), n, WHOLE)
    elif OP == "write":
        _store(out, i, _pattern(i, seed).to(tl.int32, bitcast=True), n, WHOLE)
    elif OP == "copy":
        _store(out, i, _load(a, i, n, WHOLE), n, WHOLE)
    else:
        product = _load(b, i, n, WHOLE) * scalar
        _store(out, i, _load(a, i, n, WHOLE) + product, n, WHOLE)


@triton.jit(do_not_specialize=["seed", "n"])
def transfer_kernel(OP: tl.constexpr, a, b, out, seed, scalar, n, BLOCK: tl.constexpr):
    """`fill`, `write`, `copy` of a, or `triad` of a and b, into out; what an operation does not use is ignored."""
    first = tl.program_id(0).to(tl.int64) * BLOCK
    i = first + tl.arange(0, BLOCK)
    if first + BLOCK <= n:
        _transfer(OP, a, b, out, seed, scalar, i, n, True)
    else:
        _transfer(OP, a, b, out, seed, scalar, i, n, False)


@triton.jit(do_not_specialize=["n"])
def read_kernel(source, out, n, BLOCK: tl.constexpr):
    """Program p sums blocks p, p + programs, …; only the last block of all can be partial."""
    program = tl.program_id(0).to(tl.int64)
    programs = tl.num_programs(0)
    lane = tl.arange(0, BLOCK)
    whole_blocks = n // BLOCK
    total = tl.zeros([BLOCK], tl.int32)
    for block in tl.range(program, whole_blocks, programs):
        total += _load(source, block * BLOCK + lane, n, True)
    if whole_blocks % programs == program:
        total += _load(source, whole_blocks.to(tl.int64) * BLOCK + lane, n, False)
    tl.store(out + program, tl.sum(total))


def read_partials(source: torch.Tensor, config: StreamConfig) -> int:
    """Number of partial sums that `read` makes: one a program."""
    blocks: int = triton.cdiv(source.numel(), config.block)
    return min(blocks, multiprocessors(source.device) * config.programs_per_multiprocessor)


def fill(out: torch.Tensor, seed: int, config: StreamConfig) -> None:
    """out[i] = float32((uint32(i) * 2654435761 + seed) >> 12); out float32 [n]."""
    _transfer_to(out, "fill", config, seed=seed)


def read(source: torch.Tensor, out: torch.Tensor, config: StreamConfig) -> None:
    """out[p] = sum modulo 2^32 of the words that program p read; out int32 [read_partials]."""
    require_launchable(read_kernel, source)
    require_aligned("source", source)
    words = source.view(torch.int32)
    read_kernel[(out.numel(),)](
        words, out, words.numel(), BLOCK=config.block, num_warps=config.warps, enable_fp_fusion=False
    )


def copy(source: torch.Tensor, out: torch.Tensor, config: StreamConfig) -> None:
    """out[i] = source[i]; 4-byte elements."""
    _transfer_to(out.view(torch.int32), "copy", config, a=source.view(torch.int32))


def write(out: torch.Tensor, seed: int, config: StreamConfig) -> None:
    """Bits of out[i] = uint32(i) * 2654435761 + seed; out int32 [n]."""
    _transfer_to(out, "write", config, seed=seed)


def triad(b: torch.Tensor, c: torch.Tensor, scalar: float, out: torch.Tensor, config: StreamConfig) -> None:
    """out[i] = b[i] + scalar * c[i], product and sum each rounded to float32; float32 [n]."""
    _transfer_to(out, "triad", config, a=b, b=c, scalar=scalar)


def _transfer_to(
    out: torch.Tensor,
    op: str,
    config: StreamConfig,
    *,
    a: torch.Tensor | None = None,
    b: torch.Tensor | None = None,
    seed: int = 0,
    scalar: float = 0.0,
) -> None:
    require_launchable(transfer_kernel, out)
    for name, tensor in (("out", out), ("source", a), ("c", b)):
        if tensor is not None:
            require_aligned(name, tensor)
    n = out.numel()
    transfer_kernel[(triton.cdiv(n, config.block),)](
        op,
        out if a is None else a,
        out if b is None else b,
        out,
        _signed(seed),
        scalar,
        n,
        BLOCK=config.block,
        num_warps=config.warps,
        enable_fp_fusion=False,
    )


def _signed(seed: int) -> int:
    """The seed's 32 bits as the int32 that a kernel argument carries, whatever its value."""
    return (seed & 0xFFFFFFFF) - ((seed & 0x80000000) << 1)
