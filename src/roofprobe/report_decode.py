"""What a run means for decode: each model on one to four such units, where a token's time goes, the published claims.

Everything follows from the run's own profile (`profile_machine`, `scaling`, `claims`); what the run did not measure is
assumed there and said here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from markupsafe import Markup

from roofprobe.claims import Judged, judge_all
from roofprobe.claims_data import claims_file
from roofprobe.claims_limits import Held, measured, usual
from roofprobe.errors import CannotMeasure
from roofprobe.measurement import Side
from roofprobe.model_bytes import read_bytes
from roofprobe.models import Model, models
from roofprobe.profile import TuningProfile
from roofprobe.profile_machine import profile_machine, read_ceiling
from roofprobe.rate_bounds import VERDICTS
from roofprobe.scaling import MOST_UNITS, USABLE_BYTES_PER_UNIT, Prediction, divides, fits_so, predict
from roofprobe.step_terms import Terms, Workload

CONTEXT = 4096
"""Tokens in the cache of the one stream that is predicted."""
TERMS = ("weights", "cache and state", "link latency", "link bandwidth", "layers' own time")
"""In the order in which a bar stacks them."""


@dataclass(frozen=True)
class Part:
    """One term of a step: where it stands in its bar, in percent of the longest bar's length."""

    term: int
    """Its place in TERMS."""
    start: float
    width: float
    seconds: float


@dataclass(frozen=True)
class Bar:
    """One step on some units."""

    units: int
    fits: bool
    seconds: float
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class ModelPanel:
    """One model: its scaling curve and its bars."""

    model: Model
    bytes_per_token: float
    predictions: tuple[Prediction, ...]
    chart: Markup
    bars: tuple[Bar, ...]
    notes: tuple[str, ...]
    """What the figures rest on; where it is not the same for every number of units, with that before it."""


@dataclass(frozen=True)
class DecodeSection:
    """All models on units such as this one."""

    side: Side
    gb_per_s: float
    usable_gib: float
    """Of a GB10, whatever was measured: what decides whether a model fits."""
    panels: tuple[ModelPanel, ...]


@dataclass(frozen=True)
class ClaimsSection:
    """Every published claim against a GB10: as this run measured it, where it is one."""

    judged: tuple[Judged, ...]
    counts: tuple[tuple[str, int], ...]
    held: Held


def decode_section(profile: TuningProfile) -> DecodeSection | None:
    """None where the run has no read of the memory: then nothing follows."""
    try:
        side, gb_per_s, _ = read_ceiling(profile)
    except CannotMeasure:
        return None
    panels = tuple(_panel(profile, model) for model in models())
    return DecodeSection(side, gb_per_s, USABLE_BYTES_PER_UNIT / 2**30, panels)


def claims_section(profile: TuningProfile | None) -> ClaimsSection:
    """A run on another machine says nothing about GB10: then what everybody knows of it is the measure."""
    held = usual() if profile is None or not _is_measured_gb10(profile) else measured(profile)
    judged = tuple(judge_all(claims_file(), held.limits))
    count = Counter(j.verdict for j in judged)
    return ClaimsSection(judged, tuple((verdict, count[verdict]) for verdict in VERDICTS), held)


def _is_measured_gb10(profile: TuningProfile) -> bool:
    gb10 = any(device.name == "NVIDIA GB10" for device in profile.environment.devices)
    return gb10 and profile.ceiling("read", "device") is not None


def _panel(profile: TuningProfile, model: Model) -> ModelPanel:
    from roofprobe.scaling_chart import scaling_chart

    work = Workload(model, "as-shipped", context=CONTEXT)
    predictions = []
    notes: dict[str, list[int]] = {}
    for units in range(1, MOST_UNITS + 1):
        if divides(model, units):
            assumed = profile_machine(profile, work, units, units, None)
            for note in assumed.notes:
                notes.setdefault(note, []).append(units)
            predictions.append(predict(work, assumed.machine, "tp", units))
    fit = [fits_so(work, "tp", p.units) for p in predictions]
    longest = max(p.terms.total for p in predictions)
    return ModelPanel(
        model=model,
        bytes_per_token=read_bytes(model, work.format),
        predictions=tuple(predictions),
        chart=scaling_chart(predictions, fit, f"scaling-{model.name.replace('.', '-')}"),
        bars=tuple(
            Bar(p.units, held, p.terms.total, tuple(_parts(p.terms, longest))) for p, held in zip(predictions, fit)
        ),
        notes=tuple(
            note if len(of) == len(predictions) else f"{', '.join(map(str, of))} unit{'s' if of != [1] else ''}: {note}"
            for note, of in notes.items()
        ),
    )


def _parts(terms: Terms, longest: float) -> Iterator[Part]:
    start = 0.0
    each = (terms.weights, terms.cache + terms.state, terms.link_latency, terms.link_bandwidth, terms.fixed)
    for number, seconds in enumerate(each):
        if seconds > 0:
            width = 100 * seconds / longest
            yield Part(number, start, width, seconds)
            start += width
