"""What a machine does under sustained load: small known pieces of work before, during and after it, the matrix product
against its own clock, and both sides of one memory together.

    gb_per_s          bytes / median seconds / 1e9
    tflop_per_s       flops / median seconds / 1e12
    peak_fraction     tflop_per_s * 1e12 / (multiprocessors * flops a cycle * median SM clock)

Nothing here is a verdict. A rate stands beside its raw seconds, what ran beside it and whether its result was right.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from roofprobe.measurement import FEWEST_UNDISTURBED, IMPOSSIBLE_ABOVE, Record, Side, Timing
from roofprobe.robust import median, median_interval

Phase = Literal["before", "during", "after"]
SentinelName = Literal["gemv", "copy", "matmul"]

BF16_FLOPS_PER_CYCLE = {"12.1": 1024}
"""Compute capability -> dense bf16 flops of one multiprocessor in one cycle: GB10's 125 TFLOP/s are 48 * 1024 * 2.55
GHz. Others are not listed: their product has no peak to be held against."""


class SentinelRun(Record, frozen=True, kw_only=True, tag="sentinel"):
    """One short run of a sentinel: a small known piece of work, launched a few times in a row."""

    sentinel: SentinelName
    phase: Phase
    """Of the sustained load: ``during`` a sentinel takes its turn between two stretches of the load on its side."""
    t_s: float
    """When it began, in seconds on the clock of the run's telemetry.jsonl."""
    side: Side
    memory: str
    """What was measured, for people; a host's says that it is the CPU's side."""
    backend: str
    beside: str | None = None
    """What ran on the other side meanwhile, for people; None: nothing did."""
    seconds: tuple[float, ...]
    """Per launch, in the order in which they were taken."""
    rejected: dict[int, str] = msgspec.field(default_factory=dict)
    """Index of a sample -> why it does not count, as in a `Timing`."""
    bytes: int | None = None
    """Useful bytes a launch, of gemv and copy."""
    flops: int | None = None
    """Of one launch of matmul: 2 M N K."""
    nominal_gb_per_s: float | None = None
    wrong: int | None = None
    """Elements that differ from what they should be; None where this run's result was not checked."""

    def __post_init__(self) -> None:
        if not self.seconds or min(self.seconds) <= 0:
            raise ValueError("seconds: expected at least one, each above 0")
        if (self.bytes is None) == (self.flops is None) or not (self.bytes or self.flops or 0) > 0:
            raise ValueError("expected one of bytes and flops, above 0")

    @property
    def contended(self) -> bool:
        """Whether too few samples were undisturbed, so that the disturbed ones have to stand in."""
        return len(self.seconds) - len(self.rejected) < FEWEST_UNDISTURBED

    @property
    def accepted(self) -> tuple[float, ...]:
        """The samples that count, seconds a launch."""
        return tuple(s for i, s in enumerate(self.seconds) if self.contended or i not in self.rejected)

    @property
    def gb_per_s(self) -> float | None:
        """None for a matmul."""
        return None if self.bytes is None else self.bytes / median(self.accepted) / 1e9

    @property
    def tflop_per_s(self) -> float | None:
        """None for what moves bytes."""
        return None if self.flops is None else self.flops / median(self.accepted) / 1e12

    @property
    def rate(self) -> float:
        """GB/s, or TFLOP/s for a matmul."""
        rate = self.gb_per_s if self.flops is None else self.tflop_per_s
        assert rate is not None
        return rate

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of `rate`, low first; None with fewer than six samples that count."""
        bounds = median_interval(self.accepted)
        if bounds is None:
            return None
        scale = self.rate * median(self.accepted)
        return scale / bounds[1], scale / bounds[0]

    @property
    def invalid(self) -> str | None:
        """Why the reading can't be used, or None."""
        if self.wrong:
            return f"{self.wrong} elements wrong"
        if self.nominal_gb_per_s and self.gb_per_s and self.gb_per_s > IMPOSSIBLE_ABOVE * self.nominal_gb_per_s:
            return f"{self.gb_per_s:.1f} GB/s is above the nominal {self.nominal_gb_per_s:.1f}: cached or miscounted"
        return None


class MatmulRate(Record, frozen=True, kw_only=True, tag="matmul"):
    """C[M, N] = A[M, K] B[K, N] in bf16, large enough to be bound by arithmetic, and the SM clock meanwhile."""

    side: Side
    processor: str
    """The GPU's or the CPU's name."""
    backend: str
    m: int
    n: int
    k: int
    dtype: str = "bfloat16"
    timing: Timing
    sm_clock_mhz: tuple[float, ...] = ()
    """Sampled while it ran; empty where NVML did not tell, and on a CPU."""
    multiprocessors: int | None = None
    flops_per_cycle: int | None = None
    """Dense bf16 flops of one multiprocessor in a cycle; None where no source tells."""
    wrong: int | None = None
    """Elements that differ from the exact whole-number product; None where it was not checked."""
    note: str | None = None

    def __post_init__(self) -> None:
        if min(self.m, self.n, self.k) < 1 or not self.timing.seconds or min(self.timing.seconds) <= 0:
            raise ValueError("expected m, n and k of at least 1, and samples above 0 seconds")

    @property
    def flops(self) -> int:
        return 2 * self.m * self.n * self.k

    @property
    def tflop_per_s(self) -> float:
        return self.flops / median(self.timing.accepted) / 1e12

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of `tflop_per_s`, low first."""
        bounds = median_interval(self.timing.accepted)
        return None if bounds is None else (self.flops / bounds[1] / 1e12, self.flops / bounds[0] / 1e12)

    @property
    def peak_tflop_per_s(self) -> float | None:
        """What the multiprocessors could do at the clock that they had; None where clock or width is not known."""
        if not self.sm_clock_mhz or self.multiprocessors is None or self.flops_per_cycle is None:
            return None
        return self.multiprocessors * self.flops_per_cycle * median(self.sm_clock_mhz) * 1e6 / 1e12

    @property
    def peak_fraction(self) -> float | None:
        peak = self.peak_tflop_per_s
        return None if not peak else self.tflop_per_s / peak

    @property
    def invalid(self) -> str | None:
        """Why the reading can't be used, or None."""
        if self.wrong:
            return f"{self.wrong} elements wrong"
        if self.peak_fraction is not None and self.peak_fraction > IMPOSSIBLE_ABOVE:
            return f"{self.tflop_per_s:.1f} TFLOP/s is above the {self.peak_tflop_per_s:.1f} of its own clock"
        return None


class ContentionPoint(msgspec.Struct, frozen=True, kw_only=True):
    """Who read at once, and how many bytes each moved in each of a row of equal windows of time."""

    device: bool
    """Whether the GPU was reading."""
    cpu_threads: int
    """0: the GPU alone."""
    window_seconds: float
    device_bytes: tuple[float, ...] = ()
    """By window; empty where the GPU did not read."""
    host_bytes: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        columns = [column for column in (self.device_bytes, self.host_bytes) if column]
        if self.window_seconds <= 0 or not columns or len({len(column) for column in columns}) != 1:
            raise ValueError("expected windows above 0 seconds, and one number of bytes a window and side")
        if min(min(column) for column in columns) <= 0:
            raise ValueError("expected more than 0 bytes in every window")

    @property
    def device_gb_per_s(self) -> float | None:
        return median(self.device_bytes) / self.window_seconds / 1e9 if self.device_bytes else None

    @property
    def host_gb_per_s(self) -> float | None:
        return median(self.host_bytes) / self.window_seconds / 1e9 if self.host_bytes else None

    @property
    def totals_gb_per_s(self) -> tuple[float, ...]:
        """Both sides' rate together, by window."""
        columns = [column for column in (self.device_bytes, self.host_bytes) if column]
        return tuple(sum(window) / self.window_seconds / 1e9 for window in zip(*columns, strict=True))

    @property
    def gb_per_s(self) -> float:
        """Of both sides together."""
        return median(self.totals_gb_per_s)


class SharedCeiling(msgspec.Struct, frozen=True, kw_only=True):
    """The fit of total = min(sum of what each would do alone, C); how is in `contention`."""

    gb_per_s: float | None
    """C; None where no point asked for more than it got, so that all that is known is `at_least_gb_per_s`."""
    interval: tuple[float, float] | None = None
    """95 %, low first."""
    at_least_gb_per_s: float
    """The most that was reached."""
    saturated_points: int
    """How many points tell of C, over all rounds …"""
    saturated_cases: int = 0
    """… and of how many different cases they are: a single one can't show that the total stays where it is."""
    held_out_typical: float | None = None
    """Median of |predicted / measured - 1| over points that the fit did not see; None with too few."""
    held_out_worst: float | None = None


class Contention(Record, frozen=True, kw_only=True, tag="contention"):
    """What GPU and CPU get out of the memory alone and together, or a CPU's threads where there is no GPU."""

    sides: tuple[Side, ...]
    """``("device", "host")``, or ``("host",)`` for a curve over the CPU's threads alone."""
    op: str
    memory: str
    shared: bool
    """Whether all of `sides` use one memory: false for a card with its own, where none has a share in the other's."""
    points: tuple[ContentionPoint, ...]
    """Every case in every round, in the order in which they were taken."""
    ceiling: SharedCeiling | None = None
    nominal_gb_per_s: float | None = None
    wrong: int | None = None
    note: str | None = None


def sentinel_figures(run: SentinelRun) -> dict[str, Any]:
    """A sentinel's run with its derived figures, for JSON that people's scripts read."""
    fields: dict[str, Any] = msgspec.to_builtins(run)
    named = ("rate", "interval", "contended", "invalid")
    return {
        **fields,
        **{name: getattr(run, name) for name in named},
        "unit": "GB/s" if run.flops is None else "TFLOP/s",
    }


def matmul_figures(rate: MatmulRate) -> dict[str, Any]:
    """Likewise of the matrix product's rate."""
    fields: dict[str, Any] = msgspec.to_builtins(rate)
    named = ("flops", "tflop_per_s", "interval", "peak_tflop_per_s", "peak_fraction", "invalid")
    return {**fields, **{name: getattr(rate, name) for name in named}}


def contention_figures(contention: Contention) -> dict[str, Any]:
    """Likewise of a contention curve."""
    fields: dict[str, Any] = msgspec.to_builtins(contention)
    named = ("device_gb_per_s", "host_gb_per_s", "gb_per_s")
    rates = [{name: getattr(point, name) for name in named} for point in contention.points]
    return {**fields, "points": [{**raw, **more} for raw, more in zip(fields["points"], rates, strict=True)]}
