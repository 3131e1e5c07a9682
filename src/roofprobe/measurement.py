"""What a number is: records of raw seconds and bytes. `run_file` keeps a run's.

Records hold what was read off a clock and counted; every rate is derived here, by one formula each:

    gb_per_s          useful bytes / median accepted seconds / 1e9
    best_gb_per_s     useful bytes / shortest accepted seconds / 1e9
    interval          the 95 % interval of the median, as rates, low first
    ceiling_fraction  median over pairs of (bytes / seconds) / (reference bytes / reference seconds)

A reading that can't be true (above 1.02 times the nominal ceiling) is invalid: it has no rate that anything may use.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import msgspec

from roofprobe.alpha_beta import Segment
from roofprobe.errors import FAILED, NOT_MEASURED, OK
from roofprobe.latency_record import LatencyPoint
from roofprobe.robust import median, median_interval

SCHEMA = "roofprobe/measurements/1"
IMPOSSIBLE_ABOVE = 1.02
"""A reading above this share of the nominal ceiling is a cache's or a wrong byte count's, not the memory's."""

FEWEST_UNDISTURBED = 5
"""With fewer undisturbed samples than this, a median would be one lucky moment's."""

OWN_BACKENDS = ("triton", "host")

Side = Literal["device", "host"]


class Record(msgspec.Struct, frozen=True, kw_only=True, tag_field="record"):
    """One line of the file; `record` names its kind."""


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """A CUDA device as the runtime describes it."""

    index: int
    name: str
    compute_capability: str
    multiprocessors: int
    l2_bytes: int
    memory_bytes: int
    integrated: bool
    """Whether it shares its memory with the CPU, as GB10 does."""


class Environment(Record, frozen=True, kw_only=True, tag="environment"):
    """Where and with what a run was made: an allow-list, never the whole environment."""

    schema: str = SCHEMA
    created: str
    """UTC, ISO 8601."""
    roofprobe: str
    host: str
    platform: str | None
    """The platform file that this machine matched; None for an unknown machine, which has no nominal ceiling."""
    product: str | None
    architecture: str
    kernel: str
    cpu_model: str
    cpus: int
    """CPUs that this process may run on."""
    last_level_cache_bytes: int
    memory_bytes: int
    memory_available_bytes: int
    python: str
    interpreter: str
    """``.venv``, or ``ROOFPROBE_PYTHON`` where another environment was chosen."""
    torch: str
    triton: str | None
    numba: str | None
    cupy: str | None
    cuda: str | None
    driver: str | None
    nccl: str | None
    devices: tuple[Device, ...] = ()
    variables: dict[str, str] = {}


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """Every sample of one case, in the order in which it was taken, with the reason for each that is not counted."""

    clock: str
    """``perf-counter``, ``cuda-event`` (plain launches) or ``cuda-graph`` (a captured batch of launches)."""
    seconds: tuple[float, ...]
    """Per launch."""
    reference_seconds: tuple[float, ...] = ()
    """For a paired case, as many again: the mean of the reference's time just before and just after the sample."""
    rejected: dict[int, str] = {}
    """Index of a sample -> why it does not count."""
    launches_per_sample: int = 1
    stopped_by: Literal["interval", "time-limit", "sample-limit"]

    @property
    def contended(self) -> bool:
        """Whether too few samples were undisturbed, so that the disturbed ones have to stand in, and rows say so."""
        return len(self.seconds) - len(self.rejected) < FEWEST_UNDISTURBED

    @property
    def counted(self) -> tuple[int, ...]:
        """Indices of the samples that count: the undisturbed ones, or all of them on a contended machine."""
        return tuple(i for i in range(len(self.seconds)) if self.contended or i not in self.rejected)

    @property
    def accepted(self) -> tuple[float, ...]:
        """The samples that count, seconds a launch."""
        return tuple(self.seconds[i] for i in self.counted)

    @property
    def accepted_ratios(self) -> tuple[float, ...]:
        """reference seconds / seconds of every counted pair: a rate's ratio, but for the byte counts."""
        if not self.reference_seconds:
            return ()
        return tuple(self.reference_seconds[i] / self.seconds[i] for i in self.counted)


class Measurement(Record, frozen=True, kw_only=True, tag="measurement"):
    """One case on one side of one machine."""

    probe: Literal["memory", "gemv", "dequant", "memory-kinds"]
    op: str
    format: str
    n: int
    k: int | None = None
    batch: int | None = None
    experts: int | None = None
    """Of a grouped GEMV's layer; ``batch`` tokens take ``top_k`` of them each, and n x k is one expert's matrix."""
    top_k: int | None = None
    side: Side
    memory: str
    """What was measured, for people: ``NVIDIA GB10``, ``CPU side of unified LPDDR5X``."""
    backend: str
    config: dict[str, Any] = {}
    residency: Literal["cold", "hot"] = "cold"
    """``cold``: the data exceed the caches, or buffers rotate past them; ``hot``: they are left in cache on purpose."""
    useful_bytes: int
    """As STREAM counts them; for a kernel, its algorithmic bytes: weights, scales and vectors, each once."""
    estimated_bus_bytes: int
    """With the line fills that normal stores cause."""
    timing: Timing
    reference: str | None = None
    """The ceiling that the case was paired with: ``read`` or ``copy``."""
    reference_bytes: int | None = None
    nominal_gb_per_s: float | None = None
    wrong: int | None = None
    """Elements that differ from what they should be; None where the result was not checked."""
    note: str | None = None

    @property
    def is_baseline(self) -> bool:
        """Whether somebody else's kernel was measured, to compare ours with; never a figure of roofprobe's."""
        return self.backend not in OWN_BACKENDS

    @property
    def verified(self) -> bool:
        """Whether the result was checked and every element was right."""
        return self.wrong == 0

    @property
    def seconds(self) -> float:
        """Median of the samples that count."""
        return median(self.timing.accepted)

    @property
    def gb_per_s(self) -> float:
        """Useful bytes over the median, in 1e9 bytes a second."""
        return self.useful_bytes / self.seconds / 1e9

    @property
    def best_gb_per_s(self) -> float:
        """Useful bytes over the shortest sample that counts."""
        return self.useful_bytes / min(self.timing.accepted) / 1e9

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of `gb_per_s`, low first; None where there are too few samples."""
        bounds = median_interval(self.timing.accepted)
        return None if bounds is None else (self.useful_bytes / bounds[1] / 1e9, self.useful_bytes / bounds[0] / 1e9)

    @property
    def nominal_fraction(self) -> float | None:
        """Share of the platform's nominal ceiling; None for an unknown machine."""
        if self.nominal_gb_per_s is None:
            return None
        return self.gb_per_s / self.nominal_gb_per_s

    @property
    def ceiling_fraction(self) -> float | None:
        """Paired median ratio against the reference measured in the same run."""
        ratios = self.timing.accepted_ratios
        if not ratios or not self.reference_bytes:
            return None
        return median(ratios) * self.useful_bytes / self.reference_bytes

    @property
    def ceiling_interval(self) -> tuple[float, float] | None:
        """95 % interval of `ceiling_fraction`."""
        bounds = median_interval(self.timing.accepted_ratios)
        if bounds is None or not self.reference_bytes:
            return None
        scale = self.useful_bytes / self.reference_bytes
        return bounds[0] * scale, bounds[1] * scale

    @property
    def invalid(self) -> str | None:
        """Why the reading can't be used, or None: a wrong result, or more than the memory can do."""
        if self.wrong:
            return f"{self.wrong} elements wrong"
        if self.nominal_fraction is not None and self.nominal_fraction > IMPOSSIBLE_ABOVE and self.residency == "cold":
            return (
                f"{self.gb_per_s:.1f} GB/s is above the nominal {self.nominal_gb_per_s:.1f} GB/s: cached or miscounted"
            )
        return None


class CollectivePoint(msgspec.Struct, frozen=True, kw_only=True):
    """One message size of a collective: nccl-tests' out-of-place and in-place columns."""

    bytes: int
    count: int
    out_of_place_seconds: tuple[float, ...]
    in_place_seconds: tuple[float, ...]
    """Empty for a collective without an in-place form."""
    wrong: int | None = None
    """Elements that differ from the exact expected value, over both columns; None where unchecked."""

    @property
    def alone_seconds(self) -> tuple[float, ...]:
        """Of the collective alone, without the copy that some need out of place: what fits are made from."""
        return self.in_place_seconds or self.out_of_place_seconds


class CollectiveMeasurement(Record, frozen=True, kw_only=True, tag="collective"):
    """One collective over one group of ranks, every size, and the fit T(S) = alpha + bus bytes(S) / beta."""

    op: str
    world_size: int
    backend: str
    transport: str
    """What carried the bytes, as proven: ``gloo over lo (two ranks on this host)``, ``NET/IB``."""
    dtype: str
    bus_factor: float
    """Bus bytes over message bytes: 2(n-1)/n for all_reduce."""
    points: tuple[CollectivePoint, ...]
    fit: tuple[Segment, ...] = ()
    latency: tuple[LatencyPoint, ...] = ()
    """Of small messages, aligned sample by sample; empty where it was not asked for."""
    latency_findings: tuple[str, ...] = ()
    """What the samples say of slow ranks and slow links, in sentences."""


class Skipped(Record, frozen=True, kw_only=True, tag="skipped"):
    """A case that this machine can't run, and why; never left out in silence."""

    probe: str
    case: str
    reason: str


class Ended(Record, frozen=True, kw_only=True, tag="ended"):
    """The last line of a run that ended by itself."""

    seconds: float
    interrupted: bool


def figures(m: Measurement) -> dict[str, Any]:
    """A measurement with its derived figures, for JSON that people's scripts read."""
    derived = ("seconds", "gb_per_s", "best_gb_per_s", "interval", "nominal_fraction", "ceiling_fraction")
    named = ("probe", "op", "format", "n", "k", "batch", "experts", "top_k", "side", "memory", "backend", "config")
    return {
        **{name: getattr(m, name) for name in (*named, "residency", "note")},
        "bytes": m.useful_bytes,
        **{name: getattr(m, name) for name in derived},
        "ceiling_interval": m.ceiling_interval,
        "nominal_gb_per_s": m.nominal_gb_per_s,
        "samples": len(m.timing.seconds),
        "rejected_samples": len(m.timing.rejected),
        "contended": m.timing.contended,
        "stopped_by": m.timing.stopped_by,
        "verified": m.verified,
        "wrong": m.wrong,
        "invalid": m.invalid,
    }


def exit_status(measurements: Iterable[Measurement]) -> int:
    """1 where a result was wrong; else 3 where nothing was measured or a reading is invalid; else 0."""
    measured = list(measurements)
    if any(m.wrong for m in measured):
        return FAILED
    if not measured or any(m.invalid for m in measured):
        return NOT_MEASURED
    return OK
