"""The two charts of a collective as inline SVG: bus bandwidth and time against message size, points and fit."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, floor, log2

from markupsafe import Markup
import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator
import numpy as np

from roofprobe.alpha_beta import Segment, predict
from roofprobe.chart_svg import BAD, INCHES, LINE, MARK, MARK_2, STYLE, svg
from roofprobe.measurement import CollectiveMeasurement, CollectivePoint
from roofprobe.robust import median
from roofprobe.units import duration, number, rate, size

Curve = Callable[[float], float]


def bus_gb_per_s(collective: CollectiveMeasurement, message_bytes: float, seconds: float) -> float:
    """busbw as nccl-tests defines it, in GB/s: message bytes times the bus factor over the time."""
    return message_bytes * collective.bus_factor / seconds / 1e9


def bandwidth_chart(collective: CollectiveMeasurement, name: str) -> Markup:
    """busbw against message size; `name` keeps this drawing's ids apart from the page's other drawings."""

    def curve(segment: Segment) -> Curve:
        return lambda s: bus_gb_per_s(collective, s, predict([segment], s, collective.bus_factor))

    with mpl.rc_context(STYLE):
        figure, axes = _axes(collective)
        _draw(axes, collective, lambda s, seconds: bus_gb_per_s(collective, s, seconds), curve)
        axes.set_ylim(0, 1.12 * max([axes.dataLim.y1, *(s.beta_gb_per_s for s in collective.fit[-1:])]))
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        axes.set_ylabel("bus bandwidth, GB/s")
        if collective.fit:
            beta = collective.fit[-1].beta_gb_per_s
            axes.axhline(beta, color=LINE, linewidth=1, linestyle=(0, (4, 3)))
            _note(axes, 0.02, beta, f"beta {number(beta)} GB/s", above=True, align="left")
        ends = _ends(collective, lambda s, seconds: rate(bus_gb_per_s(collective, s, seconds)))
        return svg(figure, name, f"Bus bandwidth against message size: {ends}")


def time_chart(collective: CollectiveMeasurement, name: str) -> Markup:
    """Time against message size, both logarithmic."""

    def curve(segment: Segment) -> Curve:
        return lambda s: predict([segment], s, collective.bus_factor)

    with mpl.rc_context(STYLE):
        figure, axes = _axes(collective)
        axes.set_yscale("log")
        _draw(axes, collective, lambda _, seconds: seconds, curve)
        low, high = axes.get_ylim()
        low /= 1.5  # room for alpha's name below its line
        axes.set_ylim(low, high)
        axes.yaxis.set_major_locator(LogLocator(subs=_steps(high / low)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: duration(y)))
        axes.set_ylabel("time")
        if collective.fit:
            alpha = collective.fit[0].alpha_us * 1e-6
            if low < alpha < high:
                axes.axhline(alpha, color=LINE, linewidth=1, linestyle=(0, (4, 3)))
                _note(axes, 0.98, alpha, f"alpha {duration(alpha)}", above=False, align="right")
        ends = _ends(collective, lambda _, seconds: duration(seconds))
        return svg(figure, name, f"Time against message size: {ends}")


def _axes(collective: CollectiveMeasurement) -> tuple[Figure, Axes]:
    figure = Figure(figsize=INCHES, layout="constrained")
    axes = figure.add_subplot()
    axes.set_xscale("log", base=2)
    axes.grid(visible=True)
    axes.set_axisbelow(True)
    axes.tick_params(length=3)
    sizes = [p.bytes for p in drawable(collective)] or [1, 2]
    low, high = floor(log2(min(sizes))), ceil(log2(max(sizes)))
    step = max(1, ceil((high - low) / 5))
    axes.xaxis.set_major_locator(FixedLocator([2.0**e for e in range(low, high + 1, step)]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: size(x)))
    axes.set_xlabel("message size")
    return figure, axes


def _steps(span: float) -> tuple[float, ...]:
    """Labels within a decade, so that three to seven stand on an axis from x to `span` times x."""
    if span < 30:
        return 1, 2, 5
    return (1, 3) if span < 3000 else (1,)


def _draw(
    axes: Axes,
    collective: CollectiveMeasurement,
    value: Callable[[int, float], float],
    curve: Callable[[Segment], Curve],
) -> None:
    for segment in collective.fit:
        sizes = np.geomspace(max(segment.min_bytes, 1), max(segment.max_bytes, 1), 48).tolist()
        axes.plot(sizes, [curve(segment)(s) for s in sizes], color=LINE, linewidth=1.6)
    points = drawable(collective)
    right = [p for p in points if not p.wrong]
    for shown, column, style in (
        (right, "in_place_seconds", {"marker": "s", "color": MARK_2, "markerfacecolor": "none"}),
        (right, "out_of_place_seconds", {"marker": "o", "color": MARK}),
        ([p for p in points if p.wrong], "out_of_place_seconds", {"marker": "X", "color": BAD}),
    ):
        timed = [(p.bytes, median(getattr(p, column))) for p in shown if getattr(p, column)]
        values = [value(size_, seconds) for size_, seconds in timed]
        axes.plot([size_ for size_, _ in timed], values, linestyle="none", markersize=5.5, **style)  # type: ignore[arg-type]


def drawable(collective: CollectiveMeasurement) -> list[CollectivePoint]:
    """A logarithmic axis has no place for an empty message."""
    return [p for p in collective.points if p.bytes > 0 and p.out_of_place_seconds]


def _note(axes: Axes, x: float, y: float, text: str, *, above: bool, align: str) -> None:
    axes.annotate(
        text,
        (x, y),
        xycoords=axes.get_yaxis_transform(),
        xytext=(0, 4 if above else -4),
        textcoords="offset points",
        ha="left" if align == "left" else "right",
        va="bottom" if above else "top",
        color=LINE,
    )


def _ends(collective: CollectiveMeasurement, text: Callable[[int, float], str]) -> str:
    """What the chart shows, for who can't see it: the figure at the smallest and the largest message."""
    points = drawable(collective)
    if not points:
        return "no point"
    ends = (points[0], points[-1]) if len(points) > 1 else points[:1]
    return " to ".join(f"{text(p.bytes, median(p.out_of_place_seconds))} at {size(p.bytes)}" for p in ends)
