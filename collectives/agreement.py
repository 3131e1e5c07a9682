"""Whether ranks that must have received the same really have: a hash of the bytes, compared over the ranks.

    hash = sum over 8-byte words i of weight(i) * word(i), modulo 2^64, every weight odd

An odd weight has an inverse modulo 2^64, so a change within one word always changes the hash; several changes cancel
out with a chance of about 2^-64. It knows nothing of what was expected, so it also holds where the element check
itself is at fault.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from roofprobe.collectives.exact import CHUNK

if TYPE_CHECKING:
    import torch

WORD_BYTES = 8
_MULTIPLIER = 0x9E3779B97F4A7C15 - (1 << 64)
"""An odd 64-bit constant as int64 holds it; products wrap around in two's complement."""


def hash_of(buffer: torch.Tensor) -> int:
    """A hash in 0 to 2^64 - 1 of the buffer's bytes; a last word that is not full ends in zeros."""
    import torch

    data = buffer.view(torch.uint8)
    full = data.numel() // WORD_BYTES * WORD_BYTES
    words = data[:full].view(torch.int64)
    total = torch.zeros((), dtype=torch.int64, device=buffer.device)
    for start in range(0, words.numel(), CHUNK):
        total += _weighted(words[start : start + CHUNK], start)
    if full < data.numel():
        tail = torch.zeros(WORD_BYTES, dtype=torch.uint8, device=buffer.device)
        tail[: data.numel() - full] = data[full:]
        total += _weighted(tail.view(torch.int64), words.numel())
    return int(total) % (1 << 64)


def _weighted(words: torch.Tensor, first: int) -> torch.Tensor:
    import torch

    weight = torch.arange(first + 1, first + 1 + words.numel(), dtype=torch.int64, device=words.device)
    weight *= _MULTIPLIER
    weight ^= weight >> 32
    weight |= 1
    weight *= words
    return weight.sum()


def dissenters(hashes: Sequence[int]) -> tuple[int, ...]:
    """The ranks whose hash is not that of more than half the ranks; all of them where no hash is, none if all agree."""
    (most, count), *others = Counter(hashes).most_common()
    if not others:
        return ()
    if 2 * count <= len(hashes):
        return tuple(range(len(hashes)))
    return tuple(rank for rank, found in enumerate(hashes) if found != most)
