"""The figures that a tuning profile is made of: one struct each for a memory's, a kernel's and a collective's."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta

from roofprobe.alpha_beta import Segment
from roofprobe.latency_record import LatencyMode

Positive = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]
Side = Literal["device", "host"]
StreamOp = Literal["read", "copy", "write", "triad"]
STREAM_OPS: tuple[StreamOp, ...] = get_args(StreamOp)
KernelOp = Literal["gemv", "grouped_gemv", "dequant"]


class CeilingFigure(msgspec.Struct, frozen=True, kw_only=True):
    """What one side's memory was measured to do in one of STREAM's patterns."""

    gb_per_s: Positive
    """Useful bytes over the median time, 1e9 bytes a second."""
    best_gb_per_s: Positive
    nominal_gb_per_s: Positive | None
    """The platform's; null for an unknown machine."""
    interval: tuple[Positive, Positive] | None
    """95 % interval of `gb_per_s`, low first; null where there were too few samples."""
    contended: bool = False
    """Whether other work on the machine disturbed nearly every sample: a floor then, not a ceiling."""


class KernelFigure(msgspec.Struct, frozen=True, kw_only=True):
    """One kernel at one shape, y[N] = W[N, K] x[K] for a GEMV, [N, K] for a dequantization.

    A grouped GEMV's shape is one expert's; each of `batch` tokens takes `top_k` of the layer's `experts`.
    """

    op: KernelOp
    format: str
    n: Count
    k: Count
    batch: Count
    experts: Count | None = None
    top_k: Count | None = None
    side: Side
    backend: str
    config: dict[str, Any]
    seconds: Positive
    """Median time of one call."""
    bytes: Count
    """Algorithmic bytes: weights, scales, inputs and outputs, each once."""
    gb_per_s: Positive
    interval: tuple[Positive, Positive] | None
    ceiling_fraction: Positive | None
    """Paired median ratio against the read (gemv) or copy (dequant) ceiling measured in the same run."""
    verified: bool
    """Whether every element of the timed output was checked and right."""
    contended: bool = False


class CollectiveFigure(msgspec.Struct, frozen=True, kw_only=True):
    """One message size. torch reduces and broadcasts in place: out of place, it is a copy and the collective."""

    bytes: Count
    seconds: Positive
    """Median time of the collective alone: in place where it has that form. What the fit is made from."""
    out_of_place_seconds: Positive
    busbw_gb_per_s: Annotated[float, Meta(ge=0)]
    """0 in a group of one, where nothing crosses a wire."""
    wrong: int | None


class LatencyFigure(msgspec.Struct, frozen=True, kw_only=True):
    """The median time of one message size, every sample of which began with all ranks ready."""

    bytes: Count
    mode: LatencyMode
    p50_us: Positive


class CollectiveResult(msgspec.Struct, frozen=True, kw_only=True):
    """One collective over one group of ranks, with its fit T(S) = alpha + bus bytes(S) / beta."""

    op: str
    world_size: Count
    backend: str
    transport: str
    dtype: str
    fit: tuple[Segment, ...]
    points: tuple[CollectiveFigure, ...]
    latency: tuple[LatencyFigure, ...] = ()
    """Of small messages, by mode; empty where it was not asked for."""


class Conflict(msgspec.Struct, frozen=True, kw_only=True):
    """One thing on which the machines of a merged profile disagree."""

    field: str
    """``ceilings.device.read.gb_per_s``; an entry of a list by what it is an entry for."""
    values: dict[str, Any]
    """Machine -> what it has."""
    kept: str
    """What stands in the merged profile, and why."""
