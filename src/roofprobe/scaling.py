"""How long a decode step takes on one to a few units, term by term, and so how many tokens a second they give.

    T = (weights + cache) / (efficiency * bandwidth) + all_reduces * t(message) + fixed

Decode is bound by memory: a step reads its weights once, however many tokens are in it, and each token's cache. What is
split over N units is read N times as fast; what it costs is two all-reduces a layer (tensor parallelism), a hop between
stages (pipeline), or nothing but a copy of the weights (data parallelism).

    tensor    each unit reads its share of every layer; a rank's real share, with what every rank has to hold whole
    pipeline  a token passes the stages in turn, so one stream gains nothing; up to as many streams as stages fill them
    data      the batch is dealt out; a unit without a sequence idles

Two bounds come with every estimate. The ceiling is what memory alone allows: the weights split evenly, a batch whose
tokens all take the same experts, no link, no fixed time, and all of the bandwidth. The expected rate is an interval:
each of its inputs is one. With speculative decoding a step checks `draft` further tokens, each right with probability
`acceptance` if the one before was: (1 - a^(k+1)) / (1 - a) tokens a step (Leviathan et al., 2023). The draft model's
own time is not counted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from roofprobe.errors import BadInput
from roofprobe.model_bytes import (
    all_reduce_bytes,
    all_reduces_per_token,
    cache_bytes,
    cache_traffic_bytes,
    experts_read,
    read_bytes,
    state_bytes,
    weight_bytes,
)
from roofprobe.models import Model, projections
from roofprobe.weight_formats import Format, bits_by_part

Kind = Literal["tp", "pp", "dp"]
USABLE_BYTES_PER_UNIT = 121.6 * 2**30
"""Of a GB10's 128 GB, what programs can have (llmfit pull request 872)."""


@dataclass(frozen=True)
class Range:
    """A figure that is known to lie between two others, most likely in the middle."""

    low: float
    mid: float
    high: float


@dataclass(frozen=True)
class LinkTime:
    """Seconds of one message between the ranks, in two parts that add up."""

    latency: float
    bandwidth: float


@dataclass(frozen=True)
class Machine:
    """One unit and its link, as measured or as given."""

    bandwidth_gb_per_s: float
    """Of a read that saturates the memory."""
    efficiency: Range
    """Of a decode step's reads against it."""
    fixed_seconds: Range
    """Of a step, whatever it reads: launches, sampling, the serving engine."""
    link: Callable[[int, int], LinkTime]
    """(message bytes, ranks) -> one all-reduce."""


@dataclass(frozen=True)
class Workload:
    """What is decoded, and how far each sequence has come."""

    model: Model
    format: Format
    batch: int = 1
    context: int = 0
    draft: int = 0
    acceptance: float = 0.0

    @property
    def tokens_per_step(self) -> float:
        """That each sequence gains in one step."""
        if self.acceptance >= 1:
            return self.draft + 1.0
        return (1 - self.acceptance ** (self.draft + 1)) / (1 - self.acceptance)


@dataclass(frozen=True)
class Terms:
    """Seconds of one step."""

    weights: float
    cache: float
    state: float
    link_latency: float
    link_bandwidth: float
    fixed: float

    @property
    def total(self) -> float:
        return self.weights + self.cache + self.state + self.link_latency + self.link_bandwidth + self.fixed

    @property
    def memory(self) -> float:
        return self.weights + self.cache + self.state


@dataclass(frozen=True)
class Prediction:
    """One way of using some units. Rates are over the whole batch."""

    kind: Kind
    units: int
    ceiling_tokens_per_s: float
    expected_tokens_per_s: Range
    terms: Terms
    """Of the most likely step."""


def predict(work: Workload, machine: Machine, kind: Kind, units: int) -> Prediction:
    """Raises BadInput where the model can't be split so."""
    if kind == "tp":
        require_divisible(work.model, units)
    groups, sequences = _dealt(work.batch, kind, units)
    rate = groups * sequences * work.tokens_per_step
    # The fastest step has the highest efficiency and the least fixed time.
    slow, likely, fast = (
        _terms(work, machine, kind, units, sequences, efficiency, fixed)
        for efficiency, fixed in zip(_values(machine.efficiency), _values(machine.fixed_seconds)[::-1])
    )
    return Prediction(
        kind=kind,
        units=units,
        ceiling_tokens_per_s=rate / _least_seconds(work, machine.bandwidth_gb_per_s, kind, units, sequences),
        expected_tokens_per_s=Range(rate / slow.total, rate / likely.total, rate / fast.total),
        terms=likely,
    )


def _values(r: Range) -> tuple[float, float, float]:
    return r.low, r.mid, r.high


def _dealt(batch: int, kind: Kind, units: int) -> tuple[int, float]:
    """(groups that work side by side, sequences in each)."""
    if kind == "tp":
        return 1, batch
    busy = min(batch, units)
    return busy, batch / busy


def _least_seconds(work: Workload, gb_per_s: float, kind: Kind, units: int, sequences: float) -> float:
    fewest, _ = experts_read(work.model, 1)
    moved = read_bytes(work.model, work.format, fewest) + sequences * cache_traffic_bytes(work.model, work.context)
    return moved / (gb_per_s * 1e9 * (units if kind == "tp" else 1))


def _terms(
    work: Workload, machine: Machine, kind: Kind, units: int, sequences: float, efficiency: float, fixed: float
) -> Terms:
    model = work.model
    rate = machine.bandwidth_gb_per_s * 1e9 * efficiency
    tokens = sequences * (work.draft + 1)
    _, experts = experts_read(model, round(tokens)) if tokens >= 1 else (0.0, 0.0)
    ranks = units if kind == "tp" else 1
    per_sequence = cache_traffic_bytes(model, work.context) - state_bytes(model)
    latency = bandwidth = 0.0
    if units > 1 and kind == "tp":
        each = machine.link(round(all_reduce_bytes(model) * tokens), units)
        latency, bandwidth = (all_reduces_per_token(model) * part for part in (each.latency, each.bandwidth))
    elif units > 1 and kind == "pp":
        # A hop is a send; an all-reduce of two ranks is a send each way at once, and so as long.
        each = machine.link(round(all_reduce_bytes(model) * tokens), 2)
        latency, bandwidth = units * each.latency, units * each.bandwidth
    return Terms(
        weights=rank_read_bytes(model, work.format, ranks, experts) / rate,
        cache=sequences * per_sequence / ranks * _kept_twice(model, ranks) / rate,
        state=sequences * state_bytes(model) / ranks / rate,
        link_latency=latency,
        link_bandwidth=bandwidth,
        fixed=fixed,
    )


def rank_read_bytes(model: Model, name: Format, ranks: int, experts: float | None = None) -> float:
    """What one of `ranks` reads of the weights in a step: its share, and whole what is not split."""
    bits = bits_by_part(model, name)
    total = 0.0
    for p in projections(model, ranks):
        read = p.read if p.part != "expert" or not experts else experts
        total += p.n * p.k * p.layers * read * bits[p.part]
    return total / 8


def _kept_twice(model: Model, ranks: int) -> float:
    """How often each key/value head is held among the ranks; latent attention's cache is held by all."""
    if model.latent_attention is not None:
        return float(ranks)
    if model.attention is None or model.attention.kv_heads >= ranks:
        return 1.0
    return ranks / model.attention.kv_heads


def require_divisible(model: Model, ranks: int) -> None:
    """Raises BadInput naming what does not divide; key/value heads are replicated where they are fewer."""
    heads = model.attention or model.latent_attention
    if heads is not None and heads.heads % ranks:
        raise BadInput(
            f"{model.name} has {heads.heads} query heads, which don't divide over {ranks} ranks (--tp {ranks})"
        )
    projections(model, ranks)


def fits(model: Model, name: Format, units: int, context: int, sequences: int = 1) -> bool:
    """Whether weights and cache together are no more than `units` of a GB10 can hold."""
    return weight_bytes(model, name) + sequences * cache_bytes(model, context) <= units * USABLE_BYTES_PER_UNIT


def break_even_seconds(work: Workload, machine: Machine) -> float | None:
    """The all-reduce time at which a second unit under tensor parallelism gains nothing; None where it can't help.

    Raises BadInput where the model can't be split in two.
    """
    one = predict(work, machine, "tp", 1).terms
    two = predict(work, machine, "tp", 2).terms
    saved = one.memory + one.fixed - two.memory - two.fixed
    return saved / all_reduces_per_token(work.model) if saved > 0 else None
