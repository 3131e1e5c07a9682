"""What a run holds that another run can be compared with: its cases, each with the logarithms of its rates.

A case is compared by what the protocol is sure of. A row that was paired with a reference counts by its share of that
reference, which a machine that slowed down as a whole leaves as it was; a ceiling itself (memory's read) and a
collective have no reference and count by their absolute rate.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite, log
from typing import Any

import msgspec

from roofprobe.arguments import size_text
from roofprobe.measurement import CollectiveMeasurement, Measurement
from roofprobe.run_file import Run


class CaseKey(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What has to agree for two rows to be the same case."""

    probe: str
    op: str
    format: str
    """Of the weights or elements; a collective's dtype."""
    backend: str
    side: str | None = None
    memory: str | None = None
    n: int | None = None
    k: int | None = None
    batch: int | None = None
    experts: int | None = None
    top_k: int | None = None
    residency: str | None = None
    reference: str | None = None
    ranks: int | None = None
    transport: str | None = None
    bytes: int | None = None
    """Of a collective's message."""
    mode: str | None = None
    """How a small collective's latency was taken."""

    @property
    def kind(self) -> str:
        """What shares an A/A spread: the same kernel on the same side, whatever the shape."""
        parts = (self.side, self.op, self.format, self.backend, self.residency, self.ranks, self.transport, self.mode)
        return " ".join(str(part) for part in parts if part is not None)

    @property
    def name(self) -> str:
        """``host gemv bf16 28672x8192 b1``: for people."""
        parts: list[str | None] = [self.side, self.op, self.format]
        if self.ranks is not None:
            parts += [f"{self.ranks} ranks", size_text(self.bytes or 0), self.mode, f"({self.transport})"]
        elif self.k is None:
            parts.append(f"{size_text(4 * (self.n or 0))} an array")
        else:
            parts += [f"{self.n}x{self.k}", None if self.batch is None else f"b{self.batch}"]
        parts += [None if self.experts is None else f"{self.top_k}/{self.experts}"]
        parts += [self.backend if self.backend not in ("host", "triton") and self.ranks is None else None]
        parts += ["hot" if self.residency == "hot" else None]
        return " ".join(part for part in parts if part)


@dataclass(frozen=True)
class Reading:
    """One row of one run."""

    key: CaseKey
    samples: tuple[float, ...]
    """Logarithms: of the share of the reference where there is one, else of GB/s. Empty where `unusable`."""
    unusable: str | None = None
    """Why the row can't be compared."""
    is_wrong: bool = False
    config: dict[str, Any] | None = None


def readings(run: Run) -> list[Reading]:
    """Every row of a run, collectives by message size."""
    found = [_reading(m) for m in run.measurements]
    for collective in run.collectives:
        found += _collective_readings(collective)
    return found


def _reading(m: Measurement) -> Reading:
    key = CaseKey(
        probe=m.probe,
        op=m.op,
        format=m.format,
        backend=m.backend,
        side=m.side,
        memory=m.memory,
        n=m.n,
        k=m.k,
        batch=m.batch,
        experts=m.experts,
        top_k=m.top_k,
        residency=m.residency,
        reference=m.reference,
    )
    unusable = _impossible(m) or m.invalid or _unsure(m)
    samples = () if unusable else tuple(map(log, _rates(m)))
    return Reading(key, samples, unusable, is_wrong=bool(m.wrong), config=m.config)


def _impossible(m: Measurement) -> str | None:
    """A file is a stranger's: what can't have been measured must not become an arithmetic error."""
    times = (*m.timing.seconds, *m.timing.reference_seconds)
    if not m.timing.seconds:
        return "it has no samples"
    if m.timing.reference_seconds and len(m.timing.reference_seconds) != len(m.timing.seconds):
        return "its samples and its references are not as many"
    if not all(isfinite(t) and t > 0 for t in times) or m.useful_bytes <= 0 or (m.reference_bytes or 1) <= 0:
        return "a time or a byte count is not above 0"
    return None


def _unsure(m: Measurement) -> str | None:
    if not m.verified:
        return "its result was not checked"
    if m.timing.contended:
        return f"contended: {len(m.timing.rejected)} of {len(m.timing.seconds)} samples were disturbed"
    return None


def _rates(m: Measurement) -> Iterator[float]:
    if m.timing.accepted_ratios and m.reference_bytes:
        return (ratio * m.useful_bytes / m.reference_bytes for ratio in m.timing.accepted_ratios)
    return (m.useful_bytes / seconds / 1e9 for seconds in m.timing.accepted)


def _collective_readings(c: CollectiveMeasurement) -> Iterator[Reading]:
    for point in c.points:
        yield _of_times(c, point.bytes, None, point.alone_seconds, point.wrong)
    for each in c.latency:
        if each.samples_us:
            times = tuple(us * 1e-6 for us in each.samples_us)
            yield _of_times(c, each.bytes, each.mode, times, each.wrong)


def _of_times(
    c: CollectiveMeasurement, n_bytes: int, mode: str | None, times: tuple[float, ...], wrong: int | None
) -> Reading:
    key = CaseKey(
        probe="collective",
        op=c.op,
        format=c.dtype,
        backend=c.backend,
        ranks=c.world_size,
        transport=c.transport,
        bytes=n_bytes,
        mode=mode,
    )
    unusable = None
    if wrong is None:
        unusable = "its result was not checked"
    elif wrong:
        unusable = f"{wrong} elements wrong"
    elif not times or n_bytes <= 0 or not all(isfinite(t) and t > 0 for t in times):
        unusable = "a time or a byte count is not above 0"
    samples = () if unusable else tuple(log(n_bytes / t / 1e9) for t in times)
    return Reading(key, samples, unusable, is_wrong=bool(wrong))
