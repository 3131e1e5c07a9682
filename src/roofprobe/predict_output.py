"""A prediction as one JSON document and as a table for people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from roofprobe import units
from roofprobe.model_bytes import (
    all_reduce_bytes,
    all_reduces_per_token,
    cache_bytes,
    kv_bytes_per_token,
    read_by_part,
    read_bytes,
    sliding_kv_bytes,
    state_bytes,
    state_size_bytes,
    weight_bytes,
)
from roofprobe.scaling import MOST_UNITS, USABLE_BYTES_PER_UNIT, Prediction, divides, fits, fits_so
from roofprobe.step_terms import Range, Workload
from roofprobe.weight_formats import bits_by_part

CLOSING = (
    "a ceiling is memory alone: even split, one token's experts for the whole batch, no link, no fixed time",
    (
        "a batch's tokens are taken to choose their experts independently, each as likely as the next: from 8 sequences"
        " on they have been seen to share more, which moves the rate towards the high end (docs/validation.md)"
    ),
)


@dataclass(frozen=True)
class Answer:
    """Everything that was worked out for one call."""

    work: Workload
    predictions: tuple[Prediction, ...]
    break_even_seconds: float | None
    """None where a second unit under tensor parallelism can't help, or the model can't be split in two."""
    assumptions: tuple[str, ...]


def as_json(answer: Answer) -> dict[str, Any]:
    """The documented keys; times in microseconds, rates over the whole batch unless they say a stream."""
    work = answer.work
    even = answer.break_even_seconds
    return {
        **model_json(work),
        "configurations": [_configuration(work, p) for p in answer.predictions],
        "break_even_all_reduce_us": None if even is None else even * 1e6,
        "assumptions": [*answer.assumptions, *CLOSING],
    }


def model_json(work: Workload) -> dict[str, Any]:
    """What follows from the model and its format alone, and whether it fits."""
    model, read, bits = work.model, read_by_part(work.model), bits_by_part(work.model, work.format)
    return {
        "model": model.name,
        "format": work.format,
        "parameters": model.total_params,
        "read_parameters": round(sum(read.values())),
        "weight_bytes": round(weight_bytes(model, work.format)),
        "bytes_per_token": round(read_bytes(model, work.format)),
        "bytes_per_token_by_part": {part: round(count * bits[part] / 8) for part, count in read.items()},
        "kv_bytes_per_token": kv_bytes_per_token(model),
        "sliding_kv_bytes": sliding_kv_bytes(model),
        "state_bytes": state_bytes(model),
        "state_resident_bytes": state_size_bytes(model),
        "all_reduces_per_token": all_reduces_per_token(model),
        "all_reduce_bytes": all_reduce_bytes(model),
        "divides": {str(n): divides(model, n) for n in range(2, MOST_UNITS + 1)},
        "batch": work.batch,
        "context": work.context,
        "draft": work.draft,
        "acceptance": work.acceptance if work.draft else None,
        "usable_bytes_per_unit": round(USABLE_BYTES_PER_UNIT),
        "fits": {str(n): fits(model, work.format, n, work.context, work.batch) for n in range(1, MOST_UNITS + 1)},
    }


def _configuration(work: Workload, p: Prediction) -> dict[str, Any]:
    terms, loaded = p.terms, p.loaded_link_latency
    return {
        "parallelism": p.name,
        "units": p.units,
        "batch": work.batch,
        "context": work.context,
        "fits": fits_so(work, p.kind, p.units),
        "ceiling_tokens_per_s": p.ceiling_tokens_per_s,
        "ceiling_tokens_per_s_per_stream": p.ceiling_tokens_per_s / work.batch,
        "expected_tokens_per_s": range_json(p.expected_tokens_per_s),
        "expected_tokens_per_s_per_stream": range_json(p.expected_tokens_per_s, work.batch),
        "terms_us": {
            "weights": terms.weights * 1e6,
            "kv": terms.cache * 1e6,
            "state": terms.state * 1e6,
            "link_latency": terms.link_latency * 1e6,
            "link_bandwidth": terms.link_bandwidth * 1e6,
            "fixed": terms.fixed * 1e6,
        },
        "step_us": terms.total * 1e6,
        "link_latency_loaded_us": None if loaded is None else loaded * 1e6,
    }


def range_json(r: Range, divisor: float = 1.0) -> dict[str, float]:
    return {"low": r.low / divisor, "mid": r.mid / divisor, "high": r.high / divisor}


def as_text(answer: Answer) -> str:
    """A heading, a row for each way of using the units, and what was assumed."""
    lines = [*heading(answer.work), ""]
    header = f"{'':6}{'fits':>5}{'ceiling':>9}{'expected tok/s':>24}{'a stream':>10}{'step':>10}"
    lines.append(header + "".join(f"{name:>9}" for name in ("weights", "kv", "state", "link lat", "link bw", "fixed")))
    lines += [_row(answer.work, p) for p in answer.predictions]
    for p in answer.predictions:
        if p.loaded_link_latency is not None:
            alone, loaded = (units.duration(t) for t in (p.terms.link_latency, p.loaded_link_latency))
            lines.append(f"{p.name}: {alone} of link latency a step, {loaded} while memory is streamed")
    if not all(fits_so(answer.work, p.kind, p.units) for p in answer.predictions):
        lines.append(
            "NO under fits: weights and cache are more than those units hold; the rate is what memory would allow"
        )
    even = answer.break_even_seconds
    if even is None:
        lines.append(
            "a second unit under tensor parallelism: no gain at any all-reduce time, or the model can't be split"
        )
    else:
        lines.append(
            f"a second unit under tensor parallelism pays while an all-reduce takes less than {units.duration(even)}"
        )
    return "\n".join([*lines, "", "assumed:", *(f"  {note}" for note in (*answer.assumptions, *CLOSING))])


def heading(work: Workload) -> list[str]:
    """What the model is in its format."""
    model = work.model
    found = model_json(work)
    weights = (
        f"{model.title} ({model.name}), {work.format}: {found['parameters'] / 1e9:.1f} billion weights,"
        f" {found['weight_bytes'] / 1e9:.2f} GB; a token reads {found['read_parameters'] / 1e9:.2f} billion,"
        f" {found['bytes_per_token'] / 1e9:.3f} GB"
    )
    windows = f" and {found['sliding_kv_bytes'] / 1e6:.2f} MB of full windows" if found["sliding_kv_bytes"] else ""
    state = f", state {found['state_resident_bytes'] / 1e6:.1f} MB" if found["state_bytes"] else ""
    cache = (
        f"cache {found['kv_bytes_per_token']} B a token of context{windows}{state}:"
        f" {cache_bytes(model, work.context) / 1e9:.3g} GB at {work.context} tokens;"
        f" {found['all_reduces_per_token']} all-reduces of {found['all_reduce_bytes']} B"
    )
    step = f"batch {work.batch}, context {work.context}"
    if work.draft:
        step += f", {work.draft} drafted, {work.acceptance:g} accepted: {work.tokens_per_step:.2f} tokens a step"
    fitting = [n for n, yes in found["fits"].items() if yes]
    fit = (
        f"fits {fitting[0]} unit{'s' * (fitting[0] != '1')} of 121.6 GiB" if fitting else "fits no 4 units of 121.6 GiB"
    )
    splits = [n for n, yes in found["divides"].items() if yes]
    split = f"; divides over {', '.join(splits)} ranks" if splits else "; can't be split over 2 to 4 ranks"
    return [weights, cache, step, fit + split]


def _row(work: Workload, p: Prediction) -> str:
    expected, terms = p.expected_tokens_per_s, p.terms
    interval = f"{units.number(expected.mid)} [{units.number(expected.low)}, {units.number(expected.high)}]"
    parts = (terms.weights, terms.cache, terms.state, terms.link_latency, terms.link_bandwidth, terms.fixed)
    shares = "".join(f"{units.percent(part / terms.total, 1):>9}" for part in parts)
    fit = "yes" if fits_so(work, p.kind, p.units) else "NO"
    stream = units.number(expected.mid / work.batch)
    ceiling = units.number(p.ceiling_tokens_per_s)
    return f"{p.name:6}{fit:>5}{ceiling:>9}{interval:>24}{stream:>10}{units.duration(terms.total):>10}{shares}"
