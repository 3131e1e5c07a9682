"""What the sweep has to know of a collective; each is one value of this type in a file of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Collective:
    """A collective operation whose every rank has as many elements before as after it."""

    name: str
    bus_factor: Callable[[int], float]
    """World size -> bus bytes over message bytes, nccl-tests' factor."""
    start: Callable[[torch.Tensor, torch.Tensor, str], None]
    """(send [count], receive [count], reduction): starts one operation; in place, send and receive are one tensor.

    On a CPU it has ended when this returns; on a GPU it is enqueued on the current stream.
    """
    out_of_place_note: str
    """For the preamble: what the first column times."""
