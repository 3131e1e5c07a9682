"""What a stated decode rate is held against: how many tokens a second memory and link allow at best.

    nominal    batch * N * B / moved                    memory alone, at the rate on its data sheet
    measured   batch / (moved / (N * R) + a * t)        at the measured read R, with a all-reduces of t seconds each

`moved` is what one step cannot avoid: the weights once (a batch whose tokens all take the same experts), each
sequence's cache, no more. Under tensor parallelism (tp) N units share it; under data parallelism (dp) each has the
weights whole and N is 1 for a stream, so that a single stream gains nothing; stages of a pipeline (pp) give no more,
and count only where the model can be neither split nor copied. Every idealisation favours the figure: the split is
even, the message costs its latency, no time is fixed. What lies above such a bound can't have been measured as stated;
what lies below may or may not have been.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from roofprobe.errors import BadInput
from roofprobe.machines import ALL_REDUCE_US, stated_link
from roofprobe.model_bytes import (
    all_reduce_bytes,
    all_reduces_per_token,
    cache_bytes,
    cache_traffic_bytes,
    experts_read,
    read_bytes,
    weight_bytes,
)
from roofprobe.models import Model
from roofprobe.scaling import USABLE_BYTES_PER_UNIT, require_divisible
from roofprobe.step_terms import Range
from roofprobe.systems import GB10_NOMINAL_GB_PER_S
from roofprobe.weight_formats import Format

Verdict = Literal["impossible", "implausible", "undecidable", "plausible"]
VERDICTS: tuple[Verdict, ...] = ("impossible", "implausible", "undecidable", "plausible")
"""The worst first."""

SUSPECT_GB_PER_S = 240.0
"""No GB10's saturating read was seen above 234 GB/s; 240 leaves room for a better unit."""


def usual_all_reduce_seconds(message_bytes: int, ranks: int) -> float:
    """What users measured on a pair with stock NCCL."""
    found = stated_link(Range.of(ALL_REDUCE_US.mid))(message_bytes, ranks)
    return found.latency.mid + found.bandwidth


@dataclass(frozen=True)
class Limits:
    """One unit and its link. None where nothing is known: that bound is then not drawn."""

    nominal_gb_per_s: float
    measured_gb_per_s: float | None
    usable_bytes: float | None
    all_reduce_seconds: Callable[[int, int], float] = usual_all_reduce_seconds
    """(message bytes, ranks) -> one all-reduce."""


GB10 = Limits(GB10_NOMINAL_GB_PER_S, SUSPECT_GB_PER_S, USABLE_BYTES_PER_UNIT)


@dataclass(frozen=True)
class Step:
    """What is decoded, how far each sequence has come, and on how many units."""

    model: Model
    format: Format
    units: int = 1
    batch: int = 1
    context: int = 0


@dataclass(frozen=True)
class Way:
    """One way of using the units, with the most that it can give and the sum that says so."""

    name: str
    nominal_tokens_per_s: float
    measured_tokens_per_s: float | None
    arithmetic: str

    def verdict(self, tokens_per_s: float) -> Verdict:
        if tokens_per_s > self.nominal_tokens_per_s:
            return "impossible"
        measured = self.measured_tokens_per_s
        return "implausible" if measured is not None and tokens_per_s > measured else "plausible"


@dataclass(frozen=True)
class Bounds:
    """The ways that there are, the better first; none where the model does not fit."""

    ways: tuple[Way, ...]
    arithmetic: str

    def verdict(self, tokens_per_s: float) -> Verdict:
        """By the way that allows most."""
        return max((way.verdict(tokens_per_s) for way in self.ways), key=VERDICTS.index, default="impossible")


def bounds(step: Step, limits: Limits, only: Literal["tp"] | None = None) -> Bounds:
    """The most that the units can give together; `only`: as tensor parallelism, because that was stated."""
    ways, missing = _ways(step, limits, only)
    ways.sort(key=lambda way: way.measured_tokens_per_s or way.nominal_tokens_per_s, reverse=True)
    return Bounds(tuple(ways), "; ".join([_moved_text(step), *(way.arithmetic for way in ways), *missing]))


def _ways(step: Step, limits: Limits, only: Literal["tp"] | None) -> tuple[list[Way], list[str]]:
    """The ways that there are, and why there are no others."""
    if misfit := _misfit(step, limits, step.units, step.batch):
        return [], [misfit]
    if step.units == 1:
        return [_way(step, limits, "one unit", 1, step.batch)], []
    ways, missing = [], []
    try:
        require_divisible(step.model, step.units)
        ways.append(_way(step, limits, f"tp{step.units}", step.units, step.batch))
    except BadInput as error:
        missing.append(f"no tp{step.units}: {error}")
    if only == "tp":
        return ways, missing
    busy = min(step.batch, step.units)
    copies = _misfit(step, limits, 1, step.batch / busy)
    if copies is None:
        ways.append(_way(step, limits, f"dp{step.units}", 1, step.batch / busy, busy))
        return ways, missing
    missing.append(f"no dp{step.units}: {copies}")
    if not ways:
        ways.append(_way(step, limits, f"pp{step.units}", 1, step.batch / busy, busy))
    return ways, missing


def _way(step: Step, limits: Limits, name: str, ranks: int, sequences: float, groups: int = 1) -> Way:
    """`groups` work side by side, each of `ranks` units on `sequences` streams."""
    gigabytes = moved_bytes(step, sequences) / 1e9
    rate = groups * sequences
    nominal = rate * ranks * limits.nominal_gb_per_s / gigabytes
    top = f"{rate:g} x " if rate > 1 else ""
    many = f"{ranks} x " if ranks > 1 else ""
    text = f"{name}: {top}{many}{limits.nominal_gb_per_s:g} / {gigabytes:.4g} = {nominal:.3g} tok/s nominal"
    if limits.measured_gb_per_s is None:
        return Way(name, nominal, None, text)
    measured, count = limits.measured_gb_per_s, all_reduces_per_token(step.model)
    if ranks == 1:
        most = rate * measured / gigabytes
        return Way(
            name, nominal, most, f"{text}, {top}{measured:g} / {gigabytes:.4g} = {most:.3g} at the measured read"
        )
    each = limits.all_reduce_seconds(all_reduce_bytes(step.model, round(sequences)), ranks)
    most = rate / (gigabytes / (ranks * measured) + count * each)
    text += f", {rate:g} / ({gigabytes:.4g} / ({many}{measured:g}) + {count} x {each * 1e6:.3g} us) = {most:.3g}"
    return Way(name, nominal, most, f"{text} at the measured read with the link")


def moved_bytes(step: Step, sequences: float) -> float:
    """The least that a step of that many streams moves."""
    fewest, _ = experts_read(step.model, 1)
    cache = sequences * cache_traffic_bytes(step.model, step.context)
    return read_bytes(step.model, step.format, fewest) + cache


def _moved_text(step: Step) -> str:
    weights = read_bytes(step.model, step.format) / 1e9
    cache = cache_traffic_bytes(step.model, step.context) / 1e9
    text = f"{step.model.name} in {step.format} reads {weights:.4g} GB of weights a step"
    return text + (f" and {cache:.3g} GB of cache and state a stream" if cache else "")


def _misfit(step: Step, limits: Limits, units: int, sequences: float) -> str | None:
    """Why weights and caches are too much for that many units; None where they fit, or nobody knows the capacity."""
    if limits.usable_bytes is None:
        return None
    weights = weight_bytes(step.model, step.format) / 1e9
    cache = sequences * cache_bytes(step.model, step.context) / 1e9
    room = units * limits.usable_bytes / 1e9
    if weights + cache <= room:
        return None
    return f"{weights:.4g} GB of weights + {cache:.3g} of cache > {units} x {room / units:.4g} GB: does not fit"
