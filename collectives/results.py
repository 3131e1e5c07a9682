"""What a sweep over message sizes is asked to do and what it finds: plain records, no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import msgspec


@dataclass(frozen=True)
class SweepPlan:
    """The sizes and the way of measuring each, under nccl-tests' names."""

    min_bytes: int
    max_bytes: int
    step_bytes: int
    step_factor: int
    iterations: int
    warmup_iterations: int
    checks: int
    blocking: int
    graph_launches: int
    per_iteration: bool
    dtype: str
    reduction: str
    """As the table names it; ``none`` where nothing is reduced."""
    root: int = -1
    """-1 where there is none."""


class RankInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One rank as it introduces itself to the others."""

    rank: int
    pid: int
    host: str
    machine: str
    """The kernel's boot id: equal for ranks that share memory."""
    network: str
    """Machine and network namespace: ranks with the same one talk over loopback."""
    local_rank: int
    device_index: int
    device_id: str
    """A GPU's UUID; empty for a CPU."""
    device_address: str
    """A GPU's PCI address as nccl-tests writes it, ``cpu`` otherwise."""
    device_name: str
    memory_budget_bytes: int
    """What all ranks that share this rank's memory may use together."""
    shares_memory_with: str
    """Equal for ranks that take their buffers from the same memory."""
    address: str = ""
    """That its host uses towards the store, and other ranks reach it at; empty for a rank that has met nobody."""


@dataclass(frozen=True)
class Placement:
    """One column of the table: one message size, out of place or in place."""

    mean_seconds: float
    """Of the timed loop, averaged over the ranks, as nccl-tests prints it."""
    rank_seconds: tuple[tuple[float, ...], ...]
    """[rank][iteration]"""
    rank_wrong: tuple[int, ...] | None
    """Elements that are not what they must be, by rank; None where unchecked.

    A rank whose result differs from the others' has at least one, even where the element check found none.
    """
    odd_ranks: tuple[int, ...] = ()
    """Ranks whose received bytes differ from most ranks' where all must be equal; all ranks where no most agree."""

    @property
    def seconds(self) -> tuple[float, ...]:
        """Each iteration's time, averaged over the ranks as `mean_seconds` is.

        Not the slowest rank's: nothing keeps the ranks' iterations in step, so time that one rank loses in one
        iteration and the next rank in another would count in both. Over a shaped link between two busy hosts the
        slowest ranks' median was 3.4 ms where the loop took 2.2 ms an operation.
        """
        return tuple(fmean(times) for times in zip(*self.rank_seconds))

    @property
    def slowest_seconds(self) -> tuple[float, ...]:
        """Each iteration's time on its slowest rank, which is what nccl-tests' -I shows."""
        return tuple(max(times) for times in zip(*self.rank_seconds))

    @property
    def wrong(self) -> int | None:
        return None if self.rank_wrong is None else sum(self.rank_wrong)


@dataclass(frozen=True)
class Row:
    """One message size."""

    bytes: int
    count: int
    out_of_place: Placement
    in_place: Placement
    """Where the collective has no in-place form, the time of a call whose result is undefined, unchecked."""

    @property
    def placements(self) -> tuple[Placement, Placement]:
        return self.out_of_place, self.in_place

    @property
    def wrong(self) -> int | None:
        """Over both columns; None where unchecked."""
        counts = [p.wrong for p in self.placements if p.wrong is not None]
        return sum(counts) if counts else None

    def algorithm_gb_per_s(self, placement: Placement) -> float:
        """algbw: message bytes over the mean time."""
        return self.bytes / placement.mean_seconds / 1e9


def out_of_bounds(rows: Sequence[Row]) -> int:
    """Table columns with a wrong element: the footer's first figure."""
    return sum(1 for row in rows for placement in row.placements if placement.wrong)


def average_bus_gb_per_s(rows: Sequence[Row], bus_factor: float) -> float:
    """Plain mean over all sizes and both columns: the footer's second figure; 0 without rows."""
    rates = [row.algorithm_gb_per_s(p) * bus_factor for row in rows for p in row.placements]
    return fmean(rates) if rates else 0.0


def largest_bus_gb_per_s(rows: Sequence[Row], bus_factor: float) -> float:
    """The better column's busbw of the largest size; 0 without rows.

    Not the best of all sizes: on a link that is shaped by a token bucket, a short message goes faster than the rate.
    """
    return max((row.algorithm_gb_per_s(p) * bus_factor for row in rows[-1:] for p in row.placements), default=0.0)
