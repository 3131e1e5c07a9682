"""The exact check of a chain: what K dependent reductions of the same buffer must leave in it.

In place, a reduction's result is the next one's input on every rank, so each further sum multiplies by the number of
ranks n, and maximum, minimum and average change nothing any more:

    result = n^(K-1) * sum        result = max, min, avg

The inputs are kept so small that the last result is still exact in the element type.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from roofprobe.collectives.exact import CHUNK, Pattern
from roofprobe.errors import BadInput

if TYPE_CHECKING:
    import torch


def growth(pattern: Pattern, operations: int) -> int:
    """By what the first result is multiplied after `operations` of them."""
    n: int = pattern.world_size
    return n ** (operations - 1) if pattern.reduction == "sum" else 1


def chain_pattern(pattern: Pattern, operations: int) -> Pattern:
    """`pattern` with inputs small enough for a chain. Raises BadInput where no inputs are."""
    if pattern.reduction == "prod" and operations > 1:
        raise BadInput("products of products leave every type's range")
    dtype, n, grown = pattern.dtype, pattern.world_size, growth(pattern, operations)
    exact = dtype.exact_integer // grown
    if dtype.is_float:
        # A power of two costs a float exponent, not significand: only n's odd part makes the integers longer.
        odd = n // (n & -n)
        exact = min(dtype.exact_integer // odd ** (operations - 1), (1 << dtype.exact_power) // grown)
    return replace(pattern, dtype=replace(dtype, exact_integer=exact)) if grown > 1 else pattern


def longest_chain(pattern: Pattern, most: int) -> int | None:
    """How many operations, at most `most`, can be chained and checked; None for fewer than two."""
    for operations in range(most, 1, -1):
        try:
            chain_pattern(pattern, operations)
        except BadInput:
            continue
        return operations
    return None


def count_wrong_after(buffer: torch.Tensor, pattern: Pattern, seed: int, operations: int) -> int:
    """How many elements of `buffer` [count] are not what `operations` chained reductions leave; NaN counts."""
    import torch

    wide = torch.float64 if pattern.dtype.is_float else torch.int64
    wrong = torch.zeros((), dtype=torch.int64, device=buffer.device)
    for start in range(0, buffer.numel(), CHUNK):
        stop = min(start + CHUNK, buffer.numel())
        must_be = pattern.expected(start, stop, seed, buffer.device).to(wide) * growth(pattern, operations)
        wrong += (buffer[start:stop].to(wide) != must_be).sum()
    return int(wrong)
