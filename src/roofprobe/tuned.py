"""Which configuration to run a kernel with: what a tuning run found, and the rule for shapes that it did not measure.

A shape that was not tuned takes the nearest one's configuration: among the entries with its operation, format and
side, the nearest batch by ratio (2 is as far from 1 as from 4; of two as near, the smaller), then the smallest
distance in (log N, log K), then the smaller N and K. A grouped GEMV's N and K are one expert's and its batch the
tokens; of the same shape tuned for several layers, that with the fewest experts a token stands, then in the layer.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import hypot, log
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from roofprobe.measurement import Side

TunedOp = Literal["gemv", "grouped_gemv", "dequant", "read", "copy", "write", "triad"]
ConfigFields = dict[str, int | str | None]
"""A configuration as plain data: the fields of the backend's frozen dataclass, which checks them when it is used."""

Positive = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]


class TunedKernel(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of tuning one kernel for one shape, as in `KernelFigure`; a stream's arrays have n elements, no k."""

    op: TunedOp
    format: str
    n: Count
    k: Count | None = None
    batch: Count = 1
    experts: Count | None = None
    """Of a grouped GEMV's layer; each of the `batch` tokens takes `top_k` of them."""
    top_k: Count | None = None
    side: Side
    backend: str
    config: ConfigFields
    """The fastest configuration; the default where no other was faster at first sight."""
    default: ConfigFields
    """What the kernel chooses by itself for this shape."""
    keep_default: bool
    """Whether to leave the default alone: the interval of the speedup does not clear 1 by `margin`."""
    speedup: Positive | None
    """Paired median of default seconds / config seconds in the confirming measurement; null where there was none."""
    interval: tuple[Positive, Positive] | None
    """Its interval, low first, at 95 % for all confirmed configurations together."""
    margin: Annotated[float, Meta(ge=0)]
    """The least gain that counts."""
    seconds: Positive
    """Median time of one call with `config`."""
    bytes: Count
    """Algorithmic bytes of a kernel, useful bytes of a stream."""
    tried: Count
    """Configurations that were looked at, the default among them."""
    rejected: Annotated[int, Meta(ge=0)] = 0
    """How many of them could not run or gave a wrong result."""
    contended: bool = False
    """Whether other work on the machine disturbed the confirming measurement, so that the default stays."""
    created: str
    """UTC, ISO 8601."""
    kernels: str
    """Digest of the kernels' sources that were measured."""

    @property
    def place(self) -> tuple[str | int | None, ...]:
        """What there is at most one entry for."""
        return self.op, self.format, self.n, self.k, self.batch, self.experts, self.top_k, self.side


def nearest(
    entries: Iterable[TunedKernel], op: str, weight_format: str, n: int, k: int | None, batch: int, side: str
) -> TunedKernel | None:
    """The entry that this module's rule gives for a shape; None where the operation, format and side have none."""

    def distance(entry: TunedKernel) -> tuple[float, ...]:
        along_k = log(entry.k / k) if entry.k and k else 0.0
        # Rounded, so that 2 is exactly as far from 1 as from 4.
        apart = round(abs(log(entry.batch / batch)), 9)
        layer = entry.top_k or 0, entry.experts or 0
        return apart, entry.batch, round(hypot(log(entry.n / n), along_k), 9), entry.n, entry.k or 0, *layer

    fitting = [e for e in entries if (e.op, e.format, e.side) == (op, weight_format, side)]
    return min(fitting, key=distance, default=None)


def with_tuned(entries: Iterable[TunedKernel], new: Iterable[TunedKernel]) -> tuple[TunedKernel, ...]:
    """`entries` with `new` ones added, each in place of an earlier one for the same kernel and shape."""
    merged = {entry.place: entry for entry in entries} | {entry.place: entry for entry in new}
    return tuple(merged.values())
