"""The weights that the kernel probes read: real projections' shapes, in memory that outgrows the caches.

Shapes are [N, K] of projections that decode reads. A weight that the caches could hold is measured over several
copies in rotation, so that each launch finds its own copy gone from them; one that is too large for the memory at
hand is cut to fewer rows, which the row's shape then shows.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from roofprobe.arguments import positive_int
from roofprobe.measurement import Skipped
from roofprobe.probes.sides import CACHES_PER_ARRAY

if TYPE_CHECKING:
    import torch

    from roofprobe.kernels.formats import Weight
    from roofprobe.probes.sides import MeasuredSide

ROWS_MULTIPLE = 128
SEED = 0x7A3D
FORMATS = ("bf16", "fp8", "nvfp4", "mxfp4")
QUANTIZED = FORMATS[1:]
BITS_PER_WEIGHT = {"bf16": 16, "fp8": 8, "nvfp4": 4.5, "mxfp4": 4.25}
BLOCK = {"bf16": 1, "fp8": 1, "nvfp4": 16, "mxfp4": 32}
"""Weights along K that share a scale; K is a multiple of it."""


@dataclass(frozen=True)
class Shape:
    """W[N, K] and the vectors that it is multiplied with at once."""

    n: int
    k: int
    batch: int = 1


QUICK_SHAPES = (Shape(28672, 8192),)
"""Llama 3.1 70B's gate and up projections: 470 MB in bf16, 132 MB in NVFP4."""

DEFAULT_SHAPES = (*QUICK_SHAPES, Shape(8192, 28672), Shape(28672, 8192, batch=4))

FULL_SHAPES = (
    *DEFAULT_SHAPES,
    Shape(28672, 8192, batch=16),
    Shape(10240, 8192),  # Llama 3.1 70B's fused query, key and value
    Shape(201088, 2880),  # gpt-oss's lm_head; K = 2880 is divided by no power of two above 64
    Shape(5120, 2880),  # gpt-oss's fused query, key and value: small enough to live in a cache
)


@dataclass(frozen=True)
class Source:
    """A weight to measure in one format, and where its values come from."""

    shape: Shape
    format: str
    make: Callable[[int, int, torch.device], Weight]
    """(rows, which copy, device) -> a weight of so many rows."""
    note: str | None = None

    def __str__(self) -> str:
        return f"{self.format} {self.shape.n}x{self.shape.k}"


class HasSize(Protocol):
    """A weight's shape, whatever else it says."""

    @property
    def n(self) -> int: ...

    @property
    def k(self) -> int: ...


@dataclass(frozen=True)
class Placement:
    """How a shape is laid in the memory at hand."""

    n: int
    k: int
    batch: int
    copies: int


def place(
    shape: Shape,
    weight_format: str,
    side: MeasuredSide,
    bytes_per_output: int = 0,
    matrices: int = 1,
    arrays: float = 1,
) -> Placement:
    """Rows and copies so that all copies exceed four caches and one copy with its output fits the room of `arrays`.

    `bytes_per_output` counts the outputs that go with each weight: 2 for a dequantization to bf16, 0 for a GEMV.
    `matrices`: of this shape, that make up one copy.
    """
    row_bytes = matrices * int(shape.k * (BITS_PER_WEIGHT[weight_format] / 8 + bytes_per_output))
    room = int(arrays * side.array_bytes)
    rows = min(shape.n, max(1, room // row_bytes))
    if rows < shape.n:
        rows = max(1, rows // ROWS_MULTIPLE * ROWS_MULTIPLE)
    one = rows * row_bytes
    copies = -(-(CACHES_PER_ARRAY * side.cache_bytes + 1) // one)
    return Placement(rows, shape.k, shape.batch, max(1, min(copies, room // one)))


def random_source(shape: Shape, weight_format: str) -> Source:
    """Random values that never repeat, other ones in every copy."""

    def make(rows: int, copy: int, device: torch.device) -> Weight:
        from roofprobe.kernels.formats import random_weight

        return random_weight(weight_format, rows, shape.k, SEED + copy, device)

    return Source(shape, weight_format, make)


def random_sources(shapes: Sequence[Shape], formats: Sequence[str]) -> list[Source]:
    """Every shape in every format whose block divides its K."""
    return [random_source(shape, name) for shape in shapes for name in formats if shape.k % BLOCK[name] == 0]


def undivided(probe: str, shapes: Sequence[HasSize], formats: Sequence[str]) -> list[Skipped]:
    """A record for each shape and format that `random_sources` has to leave out."""
    return [
        Skipped(probe=probe, case=f"{name} {s.n}x{s.k}", reason=f"the block of {BLOCK[name]} does not divide K = {s.k}")
        for s in shapes
        for name in formats
        if s.k % BLOCK[name]
    ]


def add_shape_flags(parser: argparse.ArgumentParser, formats: Sequence[str]) -> None:
    """``--n``, ``--k`` as in y[N] = W[N, K] x[K], and ``--format``."""
    quick = QUICK_SHAPES[0]
    parser.add_argument("--n", type=positive_int, help=f"rows of the weight (default {quick.n})")
    parser.add_argument("--k", type=positive_int, help=f"columns, a multiple of the format's block (default {quick.k})")
    parser.add_argument("--format", choices=formats, help="weight format (default: all)")


def shapes_from(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> tuple[Shape, ...]:
    """The shape that was asked for; a K that the format's block does not divide ends in a usage error."""
    quick = QUICK_SHAPES[0]
    k = arguments.k or quick.k
    check_block(parser, k, arguments.format)
    return (Shape(arguments.n or quick.n, k, getattr(arguments, "batch", 1)),)


def check_block(parser: argparse.ArgumentParser, k: int, weight_format: str | None) -> None:
    """A usage error for a K that the block of the format that was asked for does not divide."""
    if weight_format is not None and k % BLOCK[weight_format]:
        parser.error(f"argument --k: {k} is not a multiple of {weight_format}'s block of {BLOCK[weight_format]}")
