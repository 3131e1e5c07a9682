"""What the report shows, sorted: a panel for each memory that was measured and one for each collective.

A panel holds one side's rows only, with the ceilings of that same memory: a CPU's figure never stands beside a
GPU's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import floor, log10

from markupsafe import Markup

from roofprobe.alpha_beta import Segment
from roofprobe.ceiling import platforms
from roofprobe.load_record import MatmulRate
from roofprobe.measurement import CollectiveMeasurement, Measurement, Side
from roofprobe.robust import median
from roofprobe.run_file import Run

STREAM_ORDER = ("read", "copy", "write", "triad")
POOR_FIT = 0.5
"""The line is fitted to medians: on a quiet machine the worst size lies within a tenth of it."""
SIDES: dict[Side, str] = {"device": "GPU", "host": "CPU"}
LIBRARIES = {"cupy": "CuPy, CUDA C++", "flashinfer": "FlashInfer", "gemlite": "GemLite"}
"""Backends' names as their makers write them, where the record's is not the same."""


ROOFLINE_MARKS = {
    "bf16": ("M11 7a4 4 0 1 1-8 0a4 4 0 1 1 8 0z", "--mark"),
    "fp8": ("M3 3h8v8h-8z", "--mark-2"),
    "nvfp4": ("M7 2l5 9h-10z", "--read"),
    "mxfp4": ("M7 2l5 5-5 5-5-5z", "--copy"),
}
"""Format -> outline and colour of its mark, as `roofline_chart.MARKS` draws it."""


@dataclass(frozen=True)
class Line:
    """A ceiling that bars are read against, all in GB/s."""

    kind: str
    """``nominal``, ``read`` or ``copy``: also its style in the chart."""
    label: str
    gb_per_s: float


@dataclass(frozen=True)
class Panel:
    """Everything measured on one memory, and the scale and lines of its bars."""

    side: Side
    memory: str
    groups: tuple[tuple[str, tuple[Measurement, ...]], ...]
    """Heading of a group of bars and its rows; a reading from the caches has a group to itself."""
    lines: tuple[Line, ...]
    scale_gb_per_s: float
    ticks: tuple[float, ...]
    source: str | None
    """Where the nominal figure was read."""

    @property
    def title(self) -> str:
        name = SIDES[self.side]
        return self.memory if self.memory.startswith(name) else f"{name}: {self.memory}"

    @property
    def rows(self) -> list[Measurement]:
        return [m for _, rows in self.groups for m in rows]

    def place(self, gb_per_s: float) -> str:
        """Where on the scale a rate lies, as SVG takes it."""
        return f"{100 * min(gb_per_s / self.scale_gb_per_s, 1):.2f}%"


@dataclass(frozen=True)
class PointRow:
    """One message size of a collective."""

    bytes: int
    seconds: float | None
    in_place_seconds: float | None
    algbw_gb_per_s: float | None
    busbw_gb_per_s: float | None
    wrong: int | None


@dataclass(frozen=True)
class CollectivePanel:
    """One collective with its drawings."""

    collective: CollectiveMeasurement
    points: tuple[PointRow, ...]
    charts: tuple[Markup, ...]


def panels(run: Run) -> list[Panel]:
    """One for each memory, the GPU's first."""
    keys = dict.fromkeys((m.side, m.memory) for m in run.measurements)
    return [
        _panel(run, side, memory, [m for m in run.measurements if (m.side, m.memory) == (side, memory)])
        for side, memory in sorted(keys, key=lambda key: list(SIDES).index(key[0]))
    ]


def _panel(run: Run, side: Side, memory: str, rows: list[Measurement]) -> Panel:
    cold = [m for m in rows if m.residency == "cold"]
    stream = sorted((m for m in cold if m.probe == "memory"), key=_stream_place)
    groups = [
        ("Memory", tuple(stream)),
        ("GEMV: y = W x", tuple(m for m in cold if m.probe == "gemv")),
        ("Dequantization", tuple(m for m in cold if m.probe == "dequant")),
        ("Hot: from the caches on purpose", tuple(m for m in rows if m.residency == "hot")),
    ]
    nominal = next((m.nominal_gb_per_s for m in rows if m.nominal_gb_per_s is not None), None)
    lines = [] if nominal is None else [Line("nominal", "nominal", nominal)]
    for op in ("read", "copy"):
        ceiling = ceiling_row(rows, op)
        if ceiling is not None:
            lines.append(Line(op, f"measured {op}", ceiling.gb_per_s))
    # A reading from the caches would push every other bar to the left edge: it runs off the scale instead.
    tops = [line.gb_per_s for line in lines] + [m.gb_per_s for m in cold if not m.invalid]
    scale = 1.04 * max(tops or [m.gb_per_s for m in rows if not m.invalid] or [1.0])
    return Panel(
        side=side,
        memory=memory,
        groups=tuple((title, members) for title, members in groups if members),
        lines=tuple(lines),
        scale_gb_per_s=scale,
        ticks=_ticks(scale),
        source=_nominal_source(run, nominal),
    )


def roofline(panel: Panel, number: int, matmuls: Sequence[MatmulRate]) -> Markup | None:
    """None without a measured read or a kernel to place under it; `number` keeps the drawing's ids apart."""
    read = ceiling_row(panel.rows, "read")
    if read is None or not any(m.probe == "gemv" for m in panel.rows):
        return None
    from roofprobe.roofline_chart import kernel_points, roofline_chart

    points = kernel_points(panel.rows)
    nominal = next((line.gb_per_s for line in panel.lines if line.kind == "nominal"), None)
    computed = max((m.tflop_per_s for m in matmuls if m.side == panel.side and not m.invalid), default=None)
    return roofline_chart(points, read.gb_per_s, nominal, computed, f"roofline-{number}") if points else None


def library(m: Measurement) -> str | None:
    """Whose kernel a baseline is, and of torch's which; None for a row of our own."""
    if not m.is_baseline:
        return None
    if m.backend != "torch":
        return LIBRARIES.get(m.backend, m.backend)
    if m.op == "dequant":
        return "torch, eager"
    called = "torch.mv" if m.batch == 1 else "torch.mv and torch.mm" if m.experts else "torch.mm"
    return f"{called}, cuBLAS" if m.side == "device" else called


def label(m: Measurement) -> str:
    """``gemv bf16``, or for a baseline ``gemv bf16 by torch.mv, cuBLAS``."""
    maker = library(m)
    return f"{m.op} {m.format}" + ("" if maker is None else f" by {maker}")


def disturbed(m: Measurement) -> bool:
    """Whether other work disturbed most samples: the row stands as a floor of what the memory can do."""
    return m.timing.contended or 2 * len(m.timing.rejected) > len(m.timing.seconds)


def poor_fit(segment: Segment) -> bool:
    """Whether the line misses a measured size by so much that its alpha and beta describe no link."""
    return segment.error_fraction is not None and segment.error_fraction > POOR_FIT


def ceiling_row(rows: Iterable[Measurement], op: str) -> Measurement | None:
    """The fastest valid row of a pattern, as in the profile: that is what a ceiling means."""
    cold = [m for m in rows if m.probe == "memory" and m.op == op and m.residency == "cold"]
    usable = [m for m in cold if not m.invalid]
    return max(usable, key=lambda m: m.gb_per_s, default=None)


def _stream_place(m: Measurement) -> int:
    return STREAM_ORDER.index(m.op) if m.op in STREAM_ORDER else len(STREAM_ORDER)


def _ticks(scale: float) -> tuple[float, ...]:
    """Three to six round numbers from 0 up to `scale`."""
    power: float = 10.0 ** floor(log10(scale))
    step = next(s * power for s in (0.2, 0.5, 1, 2) if scale < 6 * s * power)
    return tuple(step * i for i in range(int(scale / step) + 1))


def _nominal_source(run: Run, nominal: float | None) -> str | None:
    platform = next((p for p in platforms() if p.name == run.environment.platform), None)
    figure = None if platform is None else platform.memory.nominal_gb_per_s
    return figure.source if figure is not None and figure.value == nominal else None


def collective_panel(c: CollectiveMeasurement, name: str) -> CollectivePanel:
    # matplotlib takes most of a second to import: a report without a collective does not need it.
    from roofprobe import charts

    points = []
    for p in c.points:
        seconds = median(p.out_of_place_seconds) if p.out_of_place_seconds else None
        points.append(
            PointRow(
                bytes=p.bytes,
                seconds=seconds,
                in_place_seconds=median(p.in_place_seconds) if p.in_place_seconds else None,
                algbw_gb_per_s=None if seconds is None else p.bytes / seconds / 1e9,
                busbw_gb_per_s=None if seconds is None else charts.bus_gb_per_s(c, p.bytes, seconds),
                wrong=p.wrong,
            )
        )
    drawn: list[Markup] = []
    if charts.drawable(c):
        # In a group of one nothing crosses a wire: busbw is 0 by its definition and says nothing.
        drawn += [charts.bandwidth_chart(c, f"{name}-busbw")] if c.bus_factor else []
        drawn += [charts.time_chart(c, f"{name}-time")]
    return CollectivePanel(
        collective=c,
        points=tuple(points),
        charts=tuple(drawn),
    )
