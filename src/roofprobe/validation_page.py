"""docs/validation.md and `roofprobe predict --validate`: every published figure beside its prediction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from roofprobe.machines import EFFICIENCY, INDEPENDENCE, LAYER_SECONDS, given_machine
from roofprobe.predict_output import range_json
from roofprobe.robust import median
from roofprobe.validation import Calibration, Figure, calibrate, figures, published

BATCHES = (
    "- Batches of a mixture of experts: the middle reads the union that independent, equally popular choices give."
    " From 8 sequences on engines take less time than that, by up to half at 32; with 2, llama.cpp takes more."
)
CONTEXTS = (
    "- Long contexts: attention reads the cache less efficiently than a GEMV reads weights (llama.cpp's rows rise at"
    " 0.71 of the read rate with heads of 64, 0.86 with heads of 128). One efficiency for both leaves an error that"
    " grows with the context."
)
HEADER = (
    "| engine | model, format | units | batch | context | measured | predicted | error | part |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
)


def page() -> str:
    """Markdown, with the sources, the calibration, the errors and what is not explained."""
    sources = [f"- {text} ({name})" for name, text in published().sources.items()]
    return "\n".join(
        [
            "# Predicted and measured",
            "",
            "`roofprobe predict --validate` prints this page; a test holds it against the data.",
            "",
            "Rates are tokens a second over the whole batch; predictions are made with the defaults alone. Error is",
            "the middle's, predicted / measured - 1; `out` marks a measurement outside the interval. What one part",
            "calibrates is never counted as held out.",
            "",
            _calibration(calibrate()),
            "",
            HEADER,
            *(_row(figure) for figure in figures()),
            "",
            *_summary(),
            "",
            "## What the model can't explain",
            "",
            *_unexplained(),
            "",
            "## Sources",
            "",
            *sources,
            "",
        ]
    )


def page_json() -> dict[str, Any]:
    """The same as data."""
    found = calibrate()
    return {
        "defaults": {
            "efficiency": range_json(EFFICIENCY),
            "layer_us": range_json(LAYER_SECONDS, 1e-6),
            "independence": INDEPENDENCE,
        },
        "calibrated": {
            "efficiency": range_json(found.efficiency),
            "layer_us": range_json(found.layer_seconds, 1e-6),
            "independence": found.independence,
        },
        "figures": [_figure(figure) for figure in figures()],
        "assumptions": list(given_machine().notes),
    }


def _figure(figure: Figure) -> dict[str, Any]:
    rate, series = figure.rate, figure.series
    return {
        "source": published().sources[series.source],
        "engine": series.engine,
        "model": series.model,
        "format": series.format,
        "units": rate.units,
        "batch": rate.batch,
        "context": rate.context,
        "part": rate.part,
        "measured_tokens_per_s": rate.tokens_per_s,
        "expected_tokens_per_s": range_json(figure.prediction.expected_tokens_per_s),
        "error": figure.error,
        "inside": figure.is_inside,
        "unexplained": series.unexplained,
    }


def _calibration(found: Calibration) -> str:
    e, layer = found.efficiency, found.layer_seconds
    return (
        f"Calibrated: efficiency {e.mid:.3f} ({e.low:.3f} to {e.high:.3f}) of a 234 GB/s read,"
        f" {layer.mid * 1e6:.1f} us a layer ({layer.low * 1e6:.1f} to {layer.high * 1e6:.1f}),"
        f" independence {found.independence:.3f}."
    )


def _row(figure: Figure) -> str:
    rate, series = figure.rate, figure.series
    expected = figure.prediction.expected_tokens_per_s
    interval = f"{expected.mid:.1f} [{expected.low:.1f}, {expected.high:.1f}]"
    error = f"{figure.error:+.1%}" + ("" if figure.is_inside else ", out")
    return (
        f"| {series.engine} ({series.source}) | {series.model}, {series.format} | {rate.units} | {rate.batch}"
        f" | {rate.context} | {rate.tokens_per_s:g} | {interval} | {error} | {rate.part} |"
    )


def _summary() -> list[str]:
    held_out = figures("held-out")
    groups = {
        "held out, llama.cpp on one unit, batch 1": [
            f for f in held_out if f.series.engine == "llama.cpp" and f.rate.batch == 1
        ],
        "held out, other engines on one unit, batch 1": [
            f for f in held_out if f.series.engine != "llama.cpp" and f.rate.batch == 1 and f.rate.units == 1
        ],
        "held out, several units, batch 1": [f for f in held_out if f.rate.batch == 1 and f.rate.units > 1],
        "held out, batch above 1": [f for f in held_out if f.rate.batch > 1],
        "held out, all": held_out,
        "calibrated on": [f for f in figures() if f.rate.part != "held-out"],
    }
    lines = ["| | figures | median error | worst | inside the interval |", "| --- | --- | --- | --- | --- |"]
    return lines + [_summary_row(name, group) for name, group in groups.items()]


def _summary_row(name: str, group: Sequence[Figure]) -> str:
    errors = [abs(f.error) for f in group]
    inside = sum(f.is_inside for f in group)
    return f"| {name} | {len(group)} | {median(errors):.1%} | {max(errors):.1%} | {inside} of {len(group)} |"


def _unexplained() -> list[str]:
    lines = [
        f"- {series.engine}, {series.model} ({series.source}): {series.unexplained}."
        for series in published().figures
        if series.unexplained is not None
    ]
    return [*lines, BATCHES, CONTEXTS]
