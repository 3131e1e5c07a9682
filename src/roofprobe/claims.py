"""Published claims against the ceilings: impossible, implausible, plausible, or not for arithmetic to decide.

    impossible   above what memory can do at the rate on its data sheet, more than fits, or a sum that does not add up
    implausible  above what memory was measured to do, or above that with the link's cost
    undecidable  it takes a measurement, a price list or a data sheet; the claim says which
    plausible    nothing in arithmetic speaks against it, which does not make it true

A range is judged at both ends and has the verdict of the worse one. A figure is taken to be as exact as it is written,
half of its last digit; where the document says "about", 5 % but no more than five of its last digit. A rate is held
against its bounds as written. A claim without a weight format has the published one that favours it most: of those
known for the model, the one that reads least, for a speed-up the one that reads most.
"""

from __future__ import annotations

from dataclasses import dataclass

from roofprobe.claims_data import Claim, ClaimsFile, Fits, ModelFact, Number, Open, Rate, Speedup, Sum
from roofprobe.errors import BadInput
from roofprobe.model_bytes import all_reduce_bytes, all_reduces_per_token, cache_bytes, read_bytes, weight_bytes
from roofprobe.model_facts import fact
from roofprobe.models import Model, find_model
from roofprobe.rate_bounds import VERDICTS, Limits, Step, Verdict, bounds
from roofprobe.scaling import USABLE_BYTES_PER_UNIT
from roofprobe.sums import add_up
from roofprobe.systems import systems
from roofprobe.weight_formats import FORMATS, Format

ABOUT = 0.05


@dataclass(frozen=True)
class Judged:
    """A claim with its verdict, that of each end of its figure, and the sum that gave it."""

    claim: Claim
    document: str
    verdict: Verdict
    ends: tuple[Verdict, ...]
    arithmetic: str
    format: Format | None
    """The document's, or the one that was taken where it names none."""
    parallelism: str | None = None
    """Of a rate: the better way of using the units."""
    disagrees_with: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Finding:
    ends: tuple[Verdict, ...]
    arithmetic: str
    format: Format | None = None
    parallelism: str | None = None


def judge_all(data: ClaimsFile, gb10: Limits) -> list[Judged]:
    """Every claim of the file, in its order; `gb10` is what one unit can do."""
    disagreements = _disagreements(data)
    judged = []
    for document in data.documents:
        for claim in document.claims:
            found = _judge(claim, data, gb10)
            note = f"; {claim.judge.note}" if claim.judge.note else ""
            judged.append(
                Judged(
                    claim=claim,
                    document=document.name,
                    verdict=min(found.ends, key=VERDICTS.index),
                    ends=found.ends,
                    arithmetic=found.arithmetic + note,
                    format=found.format or claim.format,
                    parallelism=found.parallelism,
                    disagrees_with=disagreements[claim.id],
                )
            )
    return judged


def _judge(claim: Claim, data: ClaimsFile, gb10: Limits) -> _Finding:
    match claim.judge:
        case Rate() as judge:
            return _judge_rate(claim, judge, data, _limits(judge.system, gb10))
        case Fits() as judge:
            return _judge_fit(claim, judge, data)
        case ModelFact() as judge:
            return _judge_fact(claim, judge, data)
        case Speedup() as judge:
            return _judge_speedup(claim, judge, data, gb10)
        case Sum() as judge:
            return _judge_sum(claim, judge)
        case Open() as judge:
            return _Finding(_same(claim, "undecidable"), _open_text(judge))


def favourable_format(data: ClaimsFile, model: Model) -> Format:
    """Of the formats that the model is published in the one that reads least; of all for a model without a list."""
    return min(data.published.get(model.name, FORMATS), key=lambda name: read_bytes(model, name))


def _limits(system: str, gb10: Limits) -> Limits:
    if system == "gb10":
        return gb10
    for found in systems():
        if found.name == system:
            return Limits(found.bandwidth.value, None, found.memory.value * 2**30)
    raise BadInput(f"no system '{system}'; there are {', '.join(found.name for found in systems())}")


def _judge_rate(claim: Claim, judge: Rate, data: ClaimsFile, limits: Limits) -> _Finding:
    model = find_model(claim.model or "")
    name = claim.format or favourable_format(data, model)
    step = Step(model, name, claim.units or 1)
    found = bounds(step, limits, judge.parallelism)
    ends = tuple(found.verdict(end) for end in claim.ends)
    text = f"{_taken(claim, name)}{found.arithmetic}; {_ends_text(claim, ends)}"
    return _Finding(ends, text, name, found.ways[0].name if found.ways else None)


def _judge_fit(claim: Claim, judge: Fits, data: ClaimsFile) -> _Finding:
    model = find_model(claim.model or "")
    name = claim.format or favourable_format(data, model)
    room = judge.memory_gb or (claim.units or 1) * USABLE_BYTES_PER_UNIT / 1e9
    where = f"{claim.units or 1} x {room / (claim.units or 1):.4g} GB usable"
    cache = cache_bytes(model, judge.context) / 1e9

    def needed(candidate: Format) -> float:
        return weight_bytes(model, candidate) / 1e9 + cache

    fits = needed(name) <= room
    held = f" + {cache:.3g} GB of cache at {judge.context} tokens = {needed(name):.4g} GB" if judge.context else ""
    text = f"{_taken(claim, name)}{model.name} in {name}: {weight_bytes(model, name) / 1e9:.4g} GB{held}"
    text += f" {'<=' if fits else '>'} {where if judge.memory_gb is None else f'{room:g} GB'}"
    if not fits:
        smaller = sorted((f for f in data.published.get(model.name, FORMATS) if needed(f) <= room), key=needed)
        shown = ", ".join(f"{f} ({needed(f):.4g} GB)" for f in reversed(smaller))
        text += f"; what does fit: {shown}" if smaller else "; none of its formats fits"
    return _Finding(_same(claim, _added_up(fits)), text, name)


def _judge_fact(claim: Claim, judge: ModelFact, data: ClaimsFile) -> _Finding:
    model = find_model(claim.model or "")
    name = claim.format or favourable_format(data, model)
    found = fact(model, name, judge.what, judge.context)
    ends = [_added_up(_agrees(end, found.value, claim.about)) for end in claim.ends]
    taken = _taken(claim, name) if found.has_format else ""
    text = f"{taken}{model.name}: {found.arithmetic}; {_against(claim, found.value)}"
    return _Finding(tuple(ends), text, name if found.has_format else None)


def _judge_speedup(claim: Claim, judge: Speedup, data: ClaimsFile, gb10: Limits) -> _Finding:
    model, units = find_model(judge.of), claim.units or 2
    published = data.published.get(model.name, FORMATS)
    held = [name for name in published if weight_bytes(model, name) <= USABLE_BYTES_PER_UNIT]
    name = max(held, key=lambda candidate: read_bytes(model, candidate))
    rate = gb10.measured_gb_per_s or gb10.nominal_gb_per_s
    gigabytes, each = read_bytes(model, name) / 1e9, gb10.all_reduce_seconds(all_reduce_bytes(model), units)
    count = all_reduces_per_token(model)
    most = (gigabytes / rate) / (gigabytes / (units * rate) + count * each)
    ends: tuple[Verdict, ...] = tuple(
        "impossible" if end > units else "implausible" if end > most else "plausible" for end in claim.ends
    )
    text = (
        f"at most {units} x by memory alone; {model.name} in {name}: ({gigabytes:.4g} / {rate:g}) / ({gigabytes:.4g} /"
        f" ({units} x {rate:g}) + {count} x {each * 1e6:.3g} us) = {most:.3g} x; {_ends_text(claim, ends)}"
    )
    return _Finding(ends, text)


def _judge_sum(claim: Claim, judge: Sum) -> _Finding:
    sums = (judge.of,) * len(claim.ends) if isinstance(judge.of, str) else judge.of
    values = [add_up(text) for text in sums]
    ends = []
    for end, value in zip(claim.ends, values):
        holds = {
            "is": _agrees(end, value, claim.about),
            "at most": end <= value,
            "at least": end >= value,
        }[judge.relation]
        ends.append(_added_up(holds))
    shown = " and ".join(f"{text} = {_plain(value)}" for text, value in dict(zip(sums, values)).items())
    return _Finding(tuple(ends), f"{shown} ({judge.where}); {_against(claim, *values, relation=judge.relation)}")


def _open_text(judge: Open) -> str:
    text = f"needs {judge.needs}"
    if judge.of is None:
        return text
    return f"{judge.of} = {_plain(add_up(judge.of))} ({judge.where}); {text}"


def _same(claim: Claim, verdict: Verdict) -> tuple[Verdict, ...]:
    return (verdict,) * len(claim.ends)


def _added_up(holds: bool) -> Verdict:
    return "plausible" if holds else "impossible"


def _agrees(figure: Number, value: float, about: bool) -> bool:
    return abs(figure - value) <= _slack(figure, about) + 1e-9


def _slack(figure: Number, about: bool) -> float:
    """Half of the last digit that is written, or what "about" allows."""
    decimals = len(repr(figure).partition(".")[2].rstrip("0")) if isinstance(figure, float) else 0
    last = 10.0**-decimals
    return max(0.5 * last, min(ABOUT * abs(figure), 5 * last) if about else 0.0)


def _against(claim: Claim, *values: float, relation: str = "is") -> str:
    """How the figure stands to the sum, each end with what it was held against."""
    said = []
    for end, value in zip(claim.ends, values * len(claim.ends) if len(values) == 1 else values):
        if relation == "is":
            slack = _slack(end, claim.about)
            ok = _agrees(end, value, claim.about)
            said.append(f"the figure {end:,} ± {slack:.3g} {'agrees' if ok else 'does not'}")
        else:
            below = end <= value if relation == "at most" else end >= value
            sign = ("<=" if below else ">") if relation == "at most" else (">=" if below else "<")
            said.append(f"the figure {end:,} {sign} that{'' if below else ', and should not be'}")
    return ", ".join(said)


def _ends_text(claim: Claim, ends: tuple[Verdict, ...]) -> str:
    return ", ".join(f"{figure:g} is {verdict}" for figure, verdict in zip(claim.ends, ends))


def _taken(claim: Claim, name: Format) -> str:
    return "" if claim.format else f"no format stated, {name} taken; "


def _plain(value: float) -> str:
    """A whole number whole, any other with four digits."""
    return f"{value:,.0f}" if abs(value - round(value)) < 1e-9 or abs(value) >= 1e5 else f"{value:.4g}"


def _disagreements(data: ClaimsFile) -> dict[str, tuple[str, ...]]:
    """For each claim those that share a topic with it and can't have the same figure."""
    every = [claim for document in data.documents for claim in document.claims]
    return {
        claim.id: tuple(
            other.id for other in every if set(claim.topics) & set(other.topics) and not _meet(claim, other)
        )
        for claim in every
    }


def _meet(one: Claim, other: Claim) -> bool:
    (low, high), (other_low, other_high) = _span(one), _span(other)
    return low <= other_high and other_low <= high


def _span(claim: Claim) -> tuple[float, float]:
    low, high = min(claim.ends), max(claim.ends)
    return low - _slack(low, claim.about), high + _slack(high, claim.about)
