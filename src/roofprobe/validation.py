"""Published decode rates: what the defaults of a prediction are calibrated on, and what it is held against.

    efficiency e, layer time g    least squares of the relative error of x / e + layers * g against the measured step,
                                  x its bytes at the full read rate, over the part "mid"; e at most 1, g at least 0
    their range                   the highest e that a figure of "mid" has at that g, the lowest of "slow"; g / 2, 2 g
    independence                  the mean over the part "batch" of ln u / ln batch, where u is the number of
                                  independent tokens whose experts would take the measured time

What is calibrated on never counts as held out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import log
from pathlib import Path
import tomllib
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from roofprobe.machines import READ_GB_PER_S, given_machine
from roofprobe.model_bytes import cache_traffic_bytes, read_bytes
from roofprobe.models import find_model
from roofprobe.scaling import Prediction, predict
from roofprobe.step_terms import Range, Workload
from roofprobe.weight_formats import find_format

VALIDATION_FILE = Path(__file__).parent / "data" / "validation.toml"

Part = Literal["mid", "slow", "batch", "held-out"]
Count = Annotated[int, Meta(ge=1)]


class Rate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One published figure, over the whole batch."""

    context: Count
    tokens_per_s: Annotated[float, Meta(gt=0)]
    batch: Count = 1
    units: Annotated[int, Meta(ge=1, le=4)] = 1
    part: Part = "held-out"


class Series(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Figures of one model in one engine from one source."""

    source: str
    engine: str
    model: str
    format: str
    rates: tuple[Rate, ...]
    unexplained: str | None = None
    """What the model leaves out that these figures have."""


class Published(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """data/validation.toml."""

    sources: dict[str, str]
    figures: tuple[Series, ...]


@dataclass(frozen=True)
class Figure:
    """One published rate with the step that it is about."""

    series: Series
    rate: Rate

    @property
    def work(self) -> Workload:
        name = find_format(self.series.format)
        return Workload(find_model(self.series.model), name, self.rate.batch, self.rate.context)

    @property
    def step_seconds(self) -> float:
        return self.rate.batch / self.rate.tokens_per_s

    @property
    def prediction(self) -> Prediction:
        """With nothing but the defaults."""
        return predict(self.work, given_machine().machine, "tp", self.rate.units)

    @property
    def error(self) -> float:
        """Of the middle: predicted / measured - 1."""
        return self.prediction.expected_tokens_per_s.mid / self.rate.tokens_per_s - 1

    @property
    def is_inside(self) -> bool:
        expected = self.prediction.expected_tokens_per_s
        return expected.low <= self.rate.tokens_per_s <= expected.high


@cache
def published() -> Published:
    """The table as it ships."""
    return msgspec.convert(tomllib.loads(VALIDATION_FILE.read_text()), Published, strict=False)


def figures(part: Part | None = None) -> tuple[Figure, ...]:
    """Those of one part, or all."""
    found = (Figure(series, rate) for series in published().figures for rate in series.rates)
    return tuple(figure for figure in found if part in (None, figure.rate.part))


@dataclass(frozen=True)
class Calibration:
    """What the constants of `roofprobe.machines` were taken from."""

    efficiency: Range
    layer_seconds: Range
    independence: float


def calibrate() -> Calibration:
    """By this module's rules, from the calibration parts of the table."""
    middle = figures("mid")
    slowness, layer = _two_terms([(_full_rate_seconds(f), _layers(f), f.step_seconds) for f in middle])
    efficiencies = [_efficiency(f, layer) for f in middle]
    slowest = min(_efficiency(f, layer) for f in figures("slow"))
    exponents = [_independence(f, 1 / slowness, layer) for f in figures("batch")]
    return Calibration(
        Range(slowest, 1 / slowness, min(1.0, max(efficiencies))),
        Range(layer / 2, layer, 2 * layer),
        sum(exponents) / len(exponents),
    )


def _layers(figure: Figure) -> int:
    return figure.work.model.architecture.layers


def _cache_bytes(work: Workload) -> float:
    return work.batch * cache_traffic_bytes(work.model, work.context)


def _full_rate_seconds(figure: Figure) -> float:
    work = figure.work
    return (read_bytes(work.model, work.format) + _cache_bytes(work)) / (READ_GB_PER_S * 1e9)


def _two_terms(rows: list[tuple[float, int, float]]) -> tuple[float, float]:
    """Least squares of a*x + b*y = t in relative error, a >= 1 and b >= 0: at the better of the bounds if outside."""
    scaled = [(x / t, y / t) for x, y, t in rows]
    xx, xy, yy = (sum(p * q for p, q in pairs) for pairs in _products(scaled))
    sx, sy = (sum(column) for column in zip(*scaled))
    determinant = xx * yy - xy * xy
    a, b = (sx * yy - sy * xy) / determinant, (sy * xx - sx * xy) / determinant
    if b < 0:
        return max(1.0, sx / xx), 0.0
    return (a, b) if a >= 1 else (1.0, max(0.0, (sy - xy) / yy))


def _products(rows: list[tuple[float, float]]) -> tuple[list[tuple[float, float]], ...]:
    return [(x, x) for x, _ in rows], list(rows), [(y, y) for _, y in rows]


def _efficiency(figure: Figure, layer_seconds: float) -> float:
    return _full_rate_seconds(figure) / (figure.step_seconds - _layers(figure) * layer_seconds)


def _independence(figure: Figure, efficiency: float, layer_seconds: float) -> float:
    work = figure.work
    experts = work.model.experts
    assert experts is not None, "a dense model says nothing about routing"
    read = (figure.step_seconds - _layers(figure) * layer_seconds) * efficiency * READ_GB_PER_S * 1e9
    least, most = (read_bytes(work.model, work.format, float(count)) for count in (0, experts.count))
    share = (read - _cache_bytes(work) - least) / (most - least)
    tokens = log(1 - share) / log(1 - experts.top_k / experts.count)
    return log(tokens) / log(work.batch)
