"""Tokens a second of one model on one to four units: the ceiling, and what to expect as a band around its middle."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup
import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from roofprobe.chart_svg import INCHES, LINE, MARK, PAGE, STYLE, svg
from roofprobe.scaling import MOST_UNITS, Prediction
from roofprobe.units import number

WHERE = (0.15, 0.16, 0.83, 0.8)
"""Of the axes in the drawing: left, bottom, width, height; labels have at most five digits."""


def scaling_chart(predictions: Sequence[Prediction], fit: Sequence[bool], name: str) -> Markup:
    """`fit` says of each prediction whether its units can hold the model; `name` keeps the drawing's ids apart."""
    units = [p.units for p in predictions]
    expected = [p.expected_tokens_per_s for p in predictions]
    with mpl.rc_context(STYLE):
        # Seven of these are drawn; letting matplotlib lay them out doubles the time (0.13 s each on a 2-core machine).
        figure = Figure(figsize=INCHES)
        axes = figure.add_axes(WHERE)
        axes.grid(visible=True, axis="y")
        axes.set_axisbelow(True)
        ceilings = [p.ceiling_tokens_per_s for p in predictions]
        axes.plot(units, ceilings, color=LINE, linewidth=1, linestyle=(0, (4, 3)))
        axes.fill_between(units, [e.low for e in expected], [e.high for e in expected], color=MARK, alpha=0.2, lw=0)
        for at, e in zip(units, expected):
            axes.plot([at, at], [e.low, e.high], color=MARK, linewidth=1.5)
        axes.plot(units, [e.mid for e in expected], color=MARK, linewidth=1.6)
        for filled in (True, False):
            shown = [(u, e.mid) for u, e, f in zip(units, expected, fit) if f is filled]
            face = MARK if filled else PAGE
            axes.plot(*zip(*shown), "o", color=MARK, markerfacecolor=face, markersize=6) if shown else None
        axes.set_xlim(0.8, MOST_UNITS + 0.2)
        axes.set_ylim(0, 1.08 * max(ceilings))
        axes.xaxis.set_major_locator(FixedLocator(range(1, MOST_UNITS + 1)))
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        axes.set_xlabel("units, tensor parallelism")
        axes.set_ylabel("tokens/s, one stream")
        axes.tick_params(length=3)
        told = ", ".join(
            f"{u} unit{'s' if u > 1 else ''} {number(e.mid)} ({number(e.low)} to {number(e.high)})"
            for u, e in zip(units, expected)
        )
        return svg(figure, name, f"Tokens a second to expect: {told}")
