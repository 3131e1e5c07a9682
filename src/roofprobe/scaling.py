"""How many tokens a second one to a few units decode, from the terms of a step (`roofprobe.step_terms`).

Decode is bound by memory: a step reads its weights once, however many tokens are in it, and each token's cache. What is
split over N units is read N times as fast; what it costs is two all-reduces a layer (tensor parallelism), a hop between
stages (pipeline), or nothing but a copy of the weights (data parallelism).

    tp  each unit reads its share of every layer; a rank's real share, with what every rank has to hold whole
    pp  a token passes the stages in turn, so one stream gains nothing; up to as many streams as stages fill them
    dp  the batch is dealt out; a unit without a sequence idles

Two bounds come with every estimate. The ceiling is what memory alone allows: the weights split evenly, a batch whose
tokens all take the same experts, no link, no time a layer, and all of the bandwidth. The expected rate is an interval,
since each of its inputs is one.
With speculative decoding a step checks `draft` further tokens, each right with probability `acceptance` if the one
before was: (1 - a^(k+1)) / (1 - a) tokens a step (Leviathan et al., 2023). The draft model's own time is not counted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from roofprobe.errors import BadInput
from roofprobe.model_bytes import (
    all_reduces_per_token,
    cache_bytes,
    cache_traffic_bytes,
    experts_read,
    read_bytes,
    weight_bytes,
)
from roofprobe.models import Model, projections
from roofprobe.step_terms import Case, Kind, Machine, Range, Terms, Workload, link_of_step, step_terms
from roofprobe.weight_formats import Format

MOST_UNITS = 4
USABLE_BYTES_PER_UNIT = 121.6 * 2**30
"""Of a GB10's 128 GB, what programs can have (llmfit pull request 872)."""
WIDEST = 2.0
"""An interval's high over its low at most: beyond that an estimate says nothing."""


@dataclass(frozen=True)
class Prediction:
    """One way of using some units. Rates are over the whole batch."""

    kind: Kind
    units: int
    ceiling_tokens_per_s: float
    expected_tokens_per_s: Range
    """`high` is at most WIDEST times `low`."""
    terms: Terms
    """Of the most likely step."""
    loaded_link_latency: float | None
    """Seconds in place of the terms' link latency while memory is streamed, as `low` takes it; None if unknown."""

    @property
    def name(self) -> str:
        """``tp2``."""
        return f"{self.kind}{self.units}"


def predict(work: Workload, machine: Machine, kind: Kind, units: int) -> Prediction:
    """Raises BadInput where the model can't be split so."""
    if kind == "tp":
        require_divisible(work.model, units)
    groups = _dealt(work.batch, kind, units)

    def rate(step: Callable[[int], float]) -> float:
        """Tokens a second, where a step of so many sequences takes that time."""
        if kind == "pp":  # the groups pass the stages in turn, at the largest one's pace
            return work.batch * work.tokens_per_step / step(groups[0])
        return sum(each * work.tokens_per_step / step(each) for each in groups)

    def expected(case: Case) -> float:
        return rate(lambda sequences: step_terms(work, machine, kind, units, sequences, case).total)

    mid = expected("likely")
    high = min(expected("fast"), WIDEST * mid)
    loaded = link_of_step(work, machine, kind, units, groups[0]).loaded_latency
    return Prediction(
        kind=kind,
        units=units,
        ceiling_tokens_per_s=rate(lambda sequences: _least_seconds(work, machine, kind, units, sequences)),
        expected_tokens_per_s=Range(max(expected("slow"), high / WIDEST), mid, high),
        terms=step_terms(work, machine, kind, units, groups[0], "likely"),
        loaded_link_latency=loaded,
    )


def _dealt(batch: int, kind: Kind, units: int) -> tuple[int, ...]:
    """Sequences in each of the groups that work side by side, the largest first."""
    if kind == "tp":
        return (batch,)
    busy = min(batch, units)
    return tuple(batch // busy + (i < batch % busy) for i in range(busy))


def _least_seconds(work: Workload, machine: Machine, kind: Kind, units: int, sequences: int) -> float:
    fewest, _ = experts_read(work.model, 1)
    moved = read_bytes(work.model, work.format, fewest) + sequences * cache_traffic_bytes(work.model, work.context)
    return moved / (machine.bandwidth_gb_per_s * 1e9 * (units if kind == "tp" else 1))


def require_divisible(model: Model, ranks: int) -> None:
    """Raises BadInput naming what does not divide; key/value heads are replicated where they are fewer."""
    heads = model.attention or model.latent_attention
    if heads is not None and heads.heads % ranks:
        raise BadInput(
            f"{model.name} has {heads.heads} query heads, which don't divide over {ranks} ranks (--tp {ranks})"
        )
    projections(model, ranks)


def divides(model: Model, ranks: int) -> bool:
    """Whether `require_divisible` lets it pass."""
    try:
        require_divisible(model, ranks)
    except BadInput:
        return False
    return True


def fits(model: Model, name: Format, units: int, context: int, sequences: int = 1) -> bool:
    """Whether weights and cache together are no more than `units` of a GB10 can hold."""
    return weight_bytes(model, name) + sequences * cache_bytes(model, context) <= units * USABLE_BYTES_PER_UNIT


def fits_so(work: Workload, kind: Kind, units: int, usable_bytes: float = USABLE_BYTES_PER_UNIT) -> bool:
    """`fits` for one way of using the units: under data parallelism each holds the model and its share of the batch."""
    sequences, holders = (_dealt(work.batch, kind, units)[0], 1) if kind == "dp" else (work.batch, units)
    needed = weight_bytes(work.model, work.format) + sequences * cache_bytes(work.model, work.context)
    return needed <= holders * usable_bytes


def break_even_seconds(work: Workload, one: Machine, two: Machine | None = None) -> float | None:
    """The all-reduce time at which a second unit under tensor parallelism gains nothing; None where it can't help.

    `two` is each of the two units where it differs (kernels at half the shapes). Raises BadInput where the model can't
    be split in two.
    """
    saved = predict(work, one, "tp", 1).terms.memory - predict(work, two or one, "tp", 2).terms.memory
    return saved / all_reduces_per_token(work.model) if saved > 0 else None
