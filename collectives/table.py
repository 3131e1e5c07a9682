"""nccl-tests' text output: preamble, rank table, header, rows and footer, column for column.

Programs read this table by the words of its header and by columns counted from a row's end, so nothing is added
inside it, and no other line may contain "out-of-place" or "Out of bounds values". Layout as printed by nccl-tests
2.19 (src/util.cu).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from statistics import fmean, pstdev

from roofprobe.collectives.results import Placement, RankInfo, Row, SweepPlan, average_bus_gb_per_s, out_of_bounds

_TITLES = ("time", "algbw", "busbw", "#wrong")
_UNITS = ("(us)", "(GB/s)", "(GB/s)", "")
_ITERATION_TITLES = ("i_min", "i_max", "i_p99", "i_cv%")
_ITERATION_UNITS = ("(us)", "(us)", "(us)", "(%)")
_BLOCKING = {
    1: "# Blocking Enabled: wait and barrier after each iteration",
    2: "# Blocking Enabled: wait after each iteration, no barrier",
    3: "# Blocking Enabled: wait and barrier after each iteration; time excludes barrier",
}


@dataclass(frozen=True)
class IterationSummary:
    """nccl-tests' -I figures, of each iteration's slowest rank: seconds, and the coefficient of variation in %."""

    minimum: float
    maximum: float
    mean: float
    p50: float
    p95: float
    p99: float
    deviation: float

    @property
    def variation_percent(self) -> float:
        return 100 * self.deviation / self.mean


def summarize(seconds: Sequence[float]) -> IterationSummary:
    """Nearest-rank percentiles, so that with few samples p99 is the largest."""
    ordered = sorted(seconds)
    n = len(ordered)
    return IterationSummary(
        minimum=ordered[0],
        maximum=ordered[-1],
        mean=fmean(ordered),
        p50=ordered[n // 2],
        p95=ordered[ceil(0.95 * n) - 1],
        p99=ordered[ceil(0.99 * n) - 1],
        deviation=pstdev(ordered),
    )


def preamble(program: str, version: str, plan: SweepPlan, ranks: Sequence[RankInfo], notes: Sequence[str]) -> list[str]:
    """Everything above the table. `version` is the text after "version"; `notes` are lines of our own."""
    factor = plan.step_factor > 1
    settings = (
        f"# nThread 1 nGpus 1 minBytes {plan.min_bytes} maxBytes {plan.max_bytes}"
        f" step: {plan.step_factor if factor else plan.step_bytes}({'factor' if factor else 'bytes'})"
        f" warmup iters: {plan.warmup_iterations} iters: {plan.iterations} agg iters: 1"
        f" validation: {plan.checks} graph: {plan.graph_launches} unalign: 0"
    )
    lines = [f"# roofprobe version {version}", f"# Collective test starting: {program}", settings]
    if plan.blocking:
        lines.append(_BLOCKING[plan.blocking])
    if plan.per_iteration:
        lines.append("# Per-Iteration Report: i_* uses the slowest rank of each iteration")
    lines += [f"# {note}" for note in notes]
    lines += ["#", "# Using devices"]
    for r in ranks:
        lines.append(
            f"#  Rank {r.rank:2d} Group  0 Pid {r.pid:6d} on {r.host:>10} device {r.device_index:2d}"
            f" [{r.device_address}] {r.device_name}"
        )
    return lines


def header(per_iteration: bool) -> list[str]:
    """The table's head; the blank at the end of its last two lines is nccl-tests' own."""
    titles: tuple[str, ...]
    units: tuple[str, ...]
    if per_iteration:
        spans = "              out-of-place (+ per-iteration)                                in-place (+ per-iteration)"
        titles, units = _TITLES + _ITERATION_TITLES, _UNITS + _ITERATION_UNITS
    else:
        spans = "           out-of-place                       in-place          "
        titles, units = _TITLES, _UNITS
    return [
        "#",
        _head("", "", "", "", "") + spans,
        _head("size", "count", "type", "redop", "root") + 2 * _columns(titles) + " ",
        _head("(B)", "(elements)", "", "", "") + 2 * _columns(units) + " ",
    ]


def _head(size: str, count: str, dtype: str, reduction: str, root: str) -> str:
    return f"# {size:>10}  {count:>12}  {dtype:>8}  {reduction:>6}  {root:>6}"


def _columns(texts: Sequence[str]) -> str:
    widths = (7, 6, 6, 6, 7, 7, 7, 7)
    return "".join(f"  {text:>{width}}" for text, width in zip(texts, widths))


def format_row(row: Row, plan: SweepPlan, bus_factor: float) -> str:
    """One size."""
    line = f"{row.bytes:12d}  {row.count:12d}  {plan.dtype:>8}  {plan.reduction:>6}  {plan.root:6d}"
    for placement in row.placements:
        line += _body(row, placement, bus_factor)
        if plan.per_iteration:
            s = summarize(placement.slowest_seconds)
            figures = (s.minimum * 1e6, s.maximum * 1e6, s.p99 * 1e6, s.variation_percent)
            line += "".join(f"  {fixed_width(figure, 7)}" for figure in figures)
    return line


def _body(row: Row, placement: Placement, bus_factor: float) -> str:
    rate = row.algorithm_gb_per_s(placement)
    wrong = "   N/A" if placement.wrong is None else f"{placement.wrong:6g}"
    time = fixed_width(placement.mean_seconds * 1e6, 7)
    return f"  {time}  {fixed_width(rate, 6)}  {fixed_width(rate * bus_factor, 6)}  {wrong}"


def fixed_width(value: float, width: int) -> str:
    """As many decimals as fit, two at most, and an exponent where not even the whole number does."""
    for decimals in (2, 1, 0):
        text = f"{value:{width}.{decimals}f}"
        if len(text) <= width:
            return text
    return f"{value:{width}.{1 if width >= 7 else 0}e}"[:width]


def footer(program: str, rows: Sequence[Row], bus_factor: float) -> list[str]:
    """The two summary lines that other programs look for, and the end."""
    wrong = out_of_bounds(rows)
    return [
        f"# {'Out of bounds values':<20} : {wrong} {'FAILED' if wrong else 'OK'}",
        f"# {'Avg bus bandwidth':<20} : {average_bus_gb_per_s(rows, bus_factor):g} ",
        "#",
        f"# Collective test concluded: {program}",
        "#",
    ]


def name_wrong(rows: Sequence[Row], ranks: Sequence[RankInfo]) -> list[str]:
    """For each rank with wrong elements or a result of its own: where, and how many in all."""
    placements = [(row.bytes, placement) for row in rows for placement in row.placements]
    lines = []
    for r in ranks:
        bad = [(size, p.rank_wrong[r.rank]) for size, p in placements if p.rank_wrong and p.rank_wrong[r.rank]]
        if bad:
            total = sum(count for _, count in bad)
            lines.append(f"rank {r.rank} on {r.host}: {total} wrong elements, at sizes {_sizes(s for s, _ in bad)}")
        odd = [size for size, p in placements if r.rank in p.odd_ranks]
        if odd:
            lines.append(f"rank {r.rank} on {r.host}: its bytes are not those of most ranks, at sizes {_sizes(odd)}")
    return lines


def _sizes(sizes: Iterable[int]) -> str:
    return ", ".join(str(size) for size in sorted(set(sizes)))
