"""The roofline: what a kernel computes each second against how much it computes for each byte that it moves.

    intensity = 2 * N * K * batch / useful bytes,  FLOP a byte
    roof      = min(measured read in GB/s * intensity, measured matmul rate),  GFLOP/s

A GEMV lies on the slanted part whatever its format: its distance below the roof is what is left to gain. After
Williams, Waterman and Patterson, "Roofline", CACM 52(4), 2009.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup
import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from roofprobe.chart_svg import COPY, INCHES, INK, LINE, MARK, MARK_2, READ, STYLE, svg
from roofprobe.measurement import Measurement
from roofprobe.units import number

MARKS = {"bf16": ("o", MARK), "fp8": ("s", MARK_2), "nvfp4": ("^", READ), "mxfp4": ("D", COPY)}
"""Format -> marker and colour; the page's legend draws the same."""


@dataclass(frozen=True)
class KernelPoint:
    """One kernel's row."""

    format: str
    flop_per_byte: float
    gflop_per_s: float


def kernel_points(rows: Sequence[Measurement]) -> tuple[KernelPoint, ...]:
    """Of every valid, cold GEMV of ours, grouped or not. Dequantization computes no dot product."""
    found = []
    for m in rows:
        if m.probe != "gemv" or m.is_baseline or m.invalid or m.residency != "cold" or m.k is None:
            continue
        flop = 2 * m.n * m.k * (m.batch or 1) * (m.top_k or 1)
        found.append(KernelPoint(m.format, flop / m.useful_bytes, flop / m.seconds / 1e9))
    return tuple(found)


def roofline_chart(
    points: Sequence[KernelPoint], read_gb_per_s: float, nominal_gb_per_s: float | None, matmul: float | None, name: str
) -> Markup:
    """`matmul` is the compute roof in TFLOP/s, None where it was not measured; `name` keeps the drawing's ids apart."""
    top = None if matmul is None else matmul * 1e3
    low = min(0.5, *(p.flop_per_byte / 1.5 for p in points))
    high = max(8.0, *(p.flop_per_byte * 2 for p in points))
    if top is not None:
        high = max(high, 4 * top / read_gb_per_s)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=INCHES, layout="constrained")
        axes = figure.add_subplot(xscale="log", yscale="log")
        axes.grid(visible=True)
        axes.set_axisbelow(True)
        ridge = high if top is None else top / read_gb_per_s
        axes.plot([low, min(ridge, high)], [low * read_gb_per_s, min(ridge, high) * read_gb_per_s], color=LINE, lw=1.6)
        if top is not None:
            axes.plot([ridge, high], [top, top], color=LINE, linewidth=1.6)
        if nominal_gb_per_s is not None:
            end = high if top is None else min(high, top / nominal_gb_per_s)
            ends = [low * nominal_gb_per_s, end * nominal_gb_per_s]
            axes.plot([low, end], ends, color=LINE, linewidth=1, linestyle=(0, (4, 3)))
        for format_, (marker, colour) in MARKS.items():
            shown = [p for p in points if p.format == format_]
            at = [p.flop_per_byte for p in shown], [p.gflop_per_s for p in shown]
            axes.plot(*at, linestyle="none", marker=marker, color=colour, markerfacecolor="none", markersize=6)
        axes.set_xlim(low, high)
        axes.xaxis.set_major_locator(LogLocator(base=2 if high / low < 600 else 10))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        axes.set_xlabel("arithmetic intensity, FLOP a byte")
        axes.set_ylabel("GFLOP/s")
        axes.tick_params(length=3)
        if top is not None:
            axes.annotate(
                f"matmul {number(matmul)} TFLOP/s",
                (high, top),
                xytext=(0, -4),
                textcoords="offset points",
                ha="right",
                va="top",
                color=INK,
            )
        return svg(figure, name, _label(points, read_gb_per_s))


def _label(points: Sequence[KernelPoint], read_gb_per_s: float) -> str:
    shares = sorted(p.gflop_per_s / p.flop_per_byte / read_gb_per_s for p in points)
    return (
        f"Roofline: {len(points)} kernels under a read of {number(read_gb_per_s)} GB/s,"
        f" at {shares[0]:.0%} to {shares[-1]:.0%} of it"
    )
