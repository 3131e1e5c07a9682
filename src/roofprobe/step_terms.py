"""One decode step, term by term: what it reads, what its messages cost, and what its layers cost besides.

    T = (weights + cache + state) / (efficiency * bandwidth) + all_reduces * t(message) + layers * t(layer)

Each figure of the machine is a range, so that a step has a slow, a likely and a fast case. Of the experts that a batch
reads, the slow and the likely one take tokens for independent and experts for equally popular; the fast one takes
`tokens ** independence` of them for independent, because routing is uneven.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from roofprobe.model_bytes import (
    all_reduce_bytes,
    all_reduces_per_token,
    cache_traffic_bytes,
    experts_read,
    state_bytes,
)
from roofprobe.models import Model, projections
from roofprobe.weight_formats import Format, bits_by_part

Kind = Literal["tp", "pp", "dp"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Case = Literal["slow", "likely", "fast"]


@dataclass(frozen=True)
class Range:
    """A figure that lies between two others, most likely in the middle."""

    low: float
    mid: float
    high: float

    @classmethod
    def of(cls, value: float) -> Range:
        """A figure that is known."""
        return cls(value, value, value)


@dataclass(frozen=True)
class LinkTime:
    """Seconds of one all-reduce, in two parts that add up."""

    latency: Range
    bandwidth: float
    loaded_latency: float | None = None
    """In place of the latency, while memory is streamed; None where that was not measured."""


@dataclass(frozen=True)
class Machine:
    """One unit and its link, as measured, given or assumed."""

    bandwidth_gb_per_s: float
    """Of a read that saturates the memory."""
    efficiency: Range
    """Of a decode step's reads against it."""
    layer_seconds: Range
    """What a layer costs beyond its reads: launches, small kernels, the serving engine."""
    link: Callable[[int, int], LinkTime]
    """(message bytes, ranks) -> one all-reduce."""
    independence: float = 1.0
    """The exponent of the fast end, in (0, 1]: at 1 no routing is uneven."""


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
        return sum(self.acceptance**i for i in range(self.draft + 1))


@dataclass(frozen=True)
class Terms:
    """Seconds of one step; with several groups at work, of the largest one's."""

    weights: float
    cache: float
    state: float
    link_latency: float
    link_bandwidth: float
    fixed: float

    @property
    def memory(self) -> float:
        return self.weights + self.cache + self.state

    @property
    def total(self) -> float:
        return self.memory + self.link_latency + self.link_bandwidth + self.fixed


def step_terms(work: Workload, machine: Machine, kind: Kind, units: int, sequences: int, case: Case) -> Terms:
    model = work.model
    rate = machine.bandwidth_gb_per_s * 1e9 * _pick(machine.efficiency, case, more_is_faster=True)
    tokens = float(sequences * (work.draft + 1))
    _, experts = experts_read(model, tokens**machine.independence if case == "fast" else tokens)
    ranks = units if kind == "tp" else 1
    kept = cache_traffic_bytes(model, work.context) - state_bytes(model)
    link = link_of_step(work, machine, kind, units, sequences)
    latency = _pick(link.latency, case, more_is_faster=False)
    if case == "slow" and link.loaded_latency is not None:
        latency = max(latency, link.loaded_latency)
    return Terms(
        weights=rank_read_bytes(model, work.format, ranks, experts) / rate,
        cache=sequences * kept * _share_of_cache(model, ranks) / rate,
        state=sequences * state_bytes(model) / ranks / rate,
        link_latency=latency,
        link_bandwidth=link.bandwidth,
        fixed=model.architecture.layers * _pick(machine.layer_seconds, case, more_is_faster=False),
    )


def _pick(r: Range, case: Case, *, more_is_faster: bool) -> float:
    if case == "likely":
        return r.mid
    return r.high if more_is_faster == (case == "fast") else r.low


def link_of_step(work: Workload, machine: Machine, kind: Kind, units: int, sequences: int) -> LinkTime:
    """Of all messages of one step."""
    if units == 1 or kind == "dp":
        return LinkTime(Range.of(0.0), 0.0)
    message = all_reduce_bytes(work.model, sequences * (work.draft + 1))
    # A hop from stage to stage, the last one back to the first, is a send. It is taken to be as long as an all-reduce
    # of two ranks, which is a send each way at once.
    count, ranks = (all_reduces_per_token(work.model), units) if kind == "tp" else (units, 2)
    each = machine.link(message, ranks)
    latency = Range(count * each.latency.low, count * each.latency.mid, count * each.latency.high)
    loaded = None if each.loaded_latency is None else count * each.loaded_latency
    return LinkTime(latency, count * each.bandwidth, loaded)


def rank_read_bytes(model: Model, name: Format, ranks: int, experts: float | None = None) -> float:
    """What one of `ranks` reads of the weights in a step: its share, and whole what is not split.

    `experts` of each layer that has them; default: one token's.
    """
    bits = bits_by_part(model, name)
    total = 0.0
    for p in projections(model, ranks):
        read = p.read if p.part != "expert" or experts is None else experts
        total += p.n * p.k * p.layers * read * bits[p.part]
    return total / 8


def _share_of_cache(model: Model, ranks: int) -> float:
    """What one rank holds: a key/value head at least, and all of what latent attention keeps."""
    if model.latent_attention is not None:
        return 1.0
    heads = 1 if model.attention is None else model.attention.kv_heads
    return 1 / min(ranks, heads)
