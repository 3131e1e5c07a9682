"""Inputs whose reduction is exact in any order, and the values that must come out of a collective.

    value(rank, index, seed) = hash(rank, index, seed) mod a power of two, shifted to lie around zero

The range is chosen so that every partial sum over any subset of the ranks is an integer that the element type holds
exactly. Then no order of summation, ring, tree or in-network, may change a single bit, and a result is compared bit
by bit. Where nothing is reduced, every integer that the type holds exactly may appear. The hash depends on the index
without a period, so that a shifted, repeated or permuted result shows.

What must come out is computed on each rank from the same formula, without communicating. The hash is a
multiply-and-xorshift mixer on 32 bits in int64 arithmetic that never overflows, the same on every device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from roofprobe.collectives.collective import Piece
from roofprobe.collectives.dtypes import Dtype
from roofprobe.errors import BadInput

if TYPE_CHECKING:
    import torch

REDUCTIONS = ("sum", "prod", "max", "min", "avg")
NO_REDUCTION = "none"
"""As the table's redop column says it."""
CHUNK = 1 << 16
"""Elements generated at a time: the int64 temporaries stay in a core's cache and need no memory to speak of."""

_MASK = (1 << 32) - 1


@dataclass(frozen=True)
class Pattern:
    """What `world_size` ranks put in and must get out of one collective over elements of one type."""

    dtype: Dtype
    reduction: str
    world_size: int

    def __post_init__(self) -> None:
        """Raises BadInput where no varied inputs exist whose reduction is exact."""
        n, dtype = self.world_size, self.dtype
        if self.reduction == "prod" and n > dtype.exact_power:
            raise BadInput(f"a product over {n} ranks is not exact in {dtype.name}; use -o sum or a wider -d")
        if self.reduction == "avg" and (not dtype.is_float or n & (n - 1)):
            raise BadInput(f"an average over {n} ranks is not exact in {dtype.name}; use -o sum")
        if self._span < 2:  # none but a sum can run out of values
            raise BadInput(f"a sum over {n} ranks is not exact in {dtype.name}; use a wider -d")

    @property
    def _span(self) -> int:
        """Number of different values of an input: a power of two."""
        if self.reduction == "prod":
            return 2
        ranks = self.world_size if self.reduction in ("sum", "avg") else 1
        each = self.dtype.exact_integer // ranks
        largest = 1 << (each.bit_length() - 1) if each else 0
        return 2 * largest if self.dtype.is_signed else largest

    def inputs(self, rank: int, start: int, stop: int, seed: int, device: torch.device) -> torch.Tensor:
        """int64 [stop - start]: what `rank` puts in at elements `start` to `stop`."""
        import torch

        index = torch.arange(start, stop, dtype=torch.int64, device=device)
        key = _mix_scalar(rank + 1, seed)
        # Elements 2^32 apart get unrelated values too: the index's upper half has a multiplier of its own.
        x = (index & _MASK) ^ ((index >> 32) * 0x6C8E9CF5)
        x = (x * 0x5851F42D + key) & _MASK
        x ^= x >> 16
        x = (x * 0x45D9F3B5) & _MASK
        x ^= x >> 15
        x = (x * 0x2C1B3C6D) & _MASK
        x ^= x >> 16
        span = self._span
        x &= span - 1
        if self.reduction == "prod":
            return x + 1
        return x - span // 2 if self.dtype.is_signed else x

    def expected(
        self, start: int, stop: int, seed: int, device: torch.device, source: int | None = None
    ) -> torch.Tensor:
        """int64 (float64 for avg) [stop - start]: what `source` put in, or without one the reduction over all ranks."""
        import torch

        if source is not None:
            return self.inputs(source, start, stop, seed, device)
        total = self.inputs(0, start, stop, seed, device)
        for rank in range(1, self.world_size):
            other = self.inputs(rank, start, stop, seed, device)
            if self.reduction == "prod":
                total *= other
            elif self.reduction == "max":
                total = torch.maximum(total, other)
            elif self.reduction == "min":
                total = torch.minimum(total, other)
            else:
                total += other
        return total / self.world_size if self.reduction == "avg" else total


def fill(buffer: torch.Tensor, pattern: Pattern, rank: int, seed: int) -> None:
    """Puts this rank's inputs into `buffer` [count]."""
    for start in range(0, buffer.numel(), CHUNK):
        stop = min(start + CHUNK, buffer.numel())
        buffer[start:stop].copy_(pattern.inputs(rank, start, stop, seed, buffer.device))


def poison(buffer: torch.Tensor, dtype: Dtype) -> None:
    """Fills `buffer` with what no collective gives: NaN, or the largest integer."""
    import torch

    if dtype.is_float:
        buffer.view(torch.uint8).fill_(0xFF)  # every bit set is a NaN in each of the float types
    else:
        buffer.fill_(torch.iinfo(buffer.dtype).max)


def count_wrong(buffer: torch.Tensor, pieces: Sequence[Piece], pattern: Pattern, seed: int) -> int:
    """How many elements of the received `buffer` differ by any bit from what the pieces, in order, say they must be.

    What lies beyond the pieces may hold anything.
    """
    import torch

    bits = pattern.dtype.bits
    wrong = torch.zeros((), dtype=torch.int64, device=buffer.device)
    at = 0
    for piece in pieces:
        for start in range(0, piece.count, CHUNK):
            n = min(CHUNK, piece.count - start)
            first = piece.first + start
            must_be = pattern.expected(first, first + n, seed, buffer.device, piece.source).to(buffer.dtype)
            wrong += (buffer[at : at + n].view(bits) != must_be.view(bits)).sum()
            at += n
    return int(wrong)


def _mix_scalar(rank: int, seed: int) -> int:
    x = (rank * 0x9E3779B1 + seed * 0x7FEB352D + 0x1B873593) & _MASK
    x = ((x ^ (x >> 16)) * 0x45D9F3B5) & _MASK
    return x ^ (x >> 13)
