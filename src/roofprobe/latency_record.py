"""What the latency of a small collective is: one record a message size and mode, with every sample.

A sample is one aligned launch of one operation, or of several whose time is divided by their number: from the moment
when the last rank starts until the last rank has finished, in microseconds. Samples are kept to 0.1 us: the clocks
read no finer than their own call, and 10 000 of them take 60 KB as text.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any, Literal

import msgspec

LatencyMode = Literal["pipelined", "isolated", "chain", "graph", "loaded"]

FEWEST_SAMPLES = {50.0: 1, 90.0: 10, 99.0: 100, 99.9: 10_000}
"""Percentile -> samples from which it is told. p99.9 of 10 000 has ten beyond it; of 1000 it is one accident."""


def nearest_rank(ordered: Sequence[float], percent: float) -> float:
    """The smallest of the `ordered` values that at least `percent` % of them do not exceed: always a sample."""
    # Rounded: 99.9 / 100 * 1000 is a little above 999 in binary.
    return ordered[max(1, ceil(round(percent * len(ordered) / 100, 6))) - 1]


class RankLatency(msgspec.Struct, frozen=True, kw_only=True):
    """One rank's own view, in microseconds."""

    minimum_us: float
    """Of its own time in an operation, from its own start to its own end; waiting for a late peer is in it."""
    mean_us: float
    maximum_us: float
    late_p50_us: float
    """How long after the earliest rank it starts."""
    late_p99_us: float
    held_up_us: float
    """Mean over the samples of the time for which it was the only one still missing."""


class LatencyPoint(msgspec.Struct, frozen=True, kw_only=True):
    """One message size in one mode; without samples where the mode can't be had, and `note` says why."""

    bytes: int
    mode: LatencyMode
    operations: int
    """Operations in a sample, whose time is divided by it."""
    samples_us: tuple[float, ...] = ()
    """In the order in which they were taken."""
    ranks: tuple[RankLatency, ...] = ()
    clock_us: float = 0.0
    """How far the ranks' clocks may be apart: the most by which a sample can be off, and lateness too."""
    rank_wrong: tuple[int, ...] | None = None
    """By rank, elements that differ from the exact result after launches in this mode; None where unchecked."""
    note: str | None = None

    @property
    def wrong(self) -> int | None:
        """Over all ranks."""
        return None if self.rank_wrong is None else sum(self.rank_wrong)

    def percentile(self, percent: float) -> float | None:
        """One of FEWEST_SAMPLES in us, by nearest rank; None with too few samples."""
        if len(self.samples_us) < FEWEST_SAMPLES[percent]:
            return None
        return nearest_rank(sorted(self.samples_us), percent)


def latency_figures(point: LatencyPoint) -> dict[str, Any]:
    """A point with its percentiles and without its samples, for JSON that people's scripts read."""
    fields: dict[str, Any] = msgspec.to_builtins(point)
    del fields["samples_us"]
    named = {f"p{percent:g}_us".replace(".", "_"): point.percentile(percent) for percent in FEWEST_SAMPLES}
    return {**fields, "wrong": point.wrong, "samples": len(point.samples_us), **named}
