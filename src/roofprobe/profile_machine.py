"""A prediction's machine from a tuning profile: measured reads, kernels at the model's own shapes, its own messages.

What the profile does not hold is taken from the defaults, and a note says so and how to measure it. A prediction is an
estimate, and an interval with one assumed end is of more use than none; what was assumed is never shown as measured.

Efficiency is the kernels' bytes over the sum of bytes / ceiling_fraction, each projection by the row of its format and
shape, or of the nearest shape (batch first, then N and K by ratio). Attention is no kernel of ours: the cache is taken
to be read as efficiently as the weights. An engine's kernels are not these: the low end lies below the rows' own
interval by the share that the slowest engine of data/validation.toml lies below the middle.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import hypot, log

from roofprobe.all_reduce_time import message_seconds, preferred
from roofprobe.alpha_beta import predict as fitted_seconds
from roofprobe.errors import CannotMeasure
from roofprobe.machines import (
    EFFICIENCY,
    INDEPENDENCE,
    LAYER_SECONDS,
    Assumed,
    efficiency_note,
    given_machine,
    layer_note,
    link_note,
)
from roofprobe.model_bytes import all_reduce_bytes, experts_read
from roofprobe.models import Projection, projections
from roofprobe.profile import TuningProfile
from roofprobe.profile_figures import CollectiveResult, KernelFigure, Side
from roofprobe.step_terms import LinkTime, Machine, Range, Workload
from roofprobe.weight_formats import BITS, formats_by_part


def profile_machine(
    profile: TuningProfile, work: Workload, units: int, ranks: int, all_reduce_us: float | None = None
) -> Assumed:
    """For `units` of which `ranks` share each layer; a given all-reduce time stands above the profile's.

    Raises CannotMeasure where the profile holds no read of the memory.
    """
    side, bandwidth, bandwidth_note = read_ceiling(profile)
    efficiency, kernels_note = _efficiency(profile, work, ranks, side)
    defaults = given_machine(bandwidth, all_reduce_us)
    world = ranks if ranks > 1 else 2  # a pipeline's hops are between two
    found = None if units == 1 or all_reduce_us is not None else measured_all_reduce(profile, world)
    notes = [bandwidth_note, kernels_note, layer_note()]
    link = defaults.machine.link
    if found is not None:
        link = partial(measured_link, found)
        notes.append(_found_note(found, all_reduce_bytes(work.model, work.batch)))
    elif units > 1:
        advice = f"; measure it with `roofprobe allreduce` on {world} units" if all_reduce_us is None else ""
        missing = f"no all-reduce of {world} ranks in the profile{advice}: " if all_reduce_us is None else ""
        notes.append(missing + link_note(all_reduce_us))
    return Assumed(Machine(bandwidth, efficiency, LAYER_SECONDS, link, INDEPENDENCE), tuple(notes))


def read_ceiling(profile: TuningProfile) -> tuple[Side, float, str]:
    """(side, GB/s, a sentence for it): the GPU's measured read, else the host's. Raises CannotMeasure without."""
    whose: dict[Side, str] = {"device": "the GPU's", "host": "the HOST's, for want of a GPU:"}
    for side, what in whose.items():
        found = profile.ceilings.get(side)
        if found is not None and (figure := found.get("read")) is not None:
            disturbed = ", while other work ran: a floor" if figure.contended else ""
            return (
                side,
                figure.gb_per_s,
                f"bandwidth {figure.gb_per_s:.4g} GB/s a unit: {what} measured read{disturbed}",
            )
    raise CannotMeasure(
        "the profile holds no read of the memory; measure it with `roofprobe memory`, or `roofprobe run`"
    )


@dataclass
class _Weighed:
    """Bytes, and bytes over the share of the ceiling at which they are read: at worst, likely, at best."""

    total: float = 0.0
    times: tuple[float, float, float] = (0.0, 0.0, 0.0)
    exact: float = 0.0
    assumed: float = 0.0

    def add(self, n_bytes: float, share: Range) -> None:
        self.total += n_bytes
        low, mid, high = self.times
        self.times = low + n_bytes / share.low, mid + n_bytes / share.mid, high + n_bytes / share.high


def _efficiency(profile: TuningProfile, work: Workload, ranks: int, side: Side) -> tuple[Range, str]:
    tokens = work.batch * (work.draft + 1)
    _, experts = experts_read(work.model, tokens)
    formats = formats_by_part(work.model, work.format)
    weighed = _Weighed()
    nearest_shapes: list[str] = []
    for p in projections(work.model, ranks):
        read = experts if p.part == "expert" else p.read
        n_bytes = p.n * p.k * p.layers * read * BITS[formats[p.part]] / 8
        row = _nearest(profile, p, formats[p.part], tokens, side)
        if row is None:
            weighed.add(n_bytes, EFFICIENCY)
            weighed.assumed += n_bytes
            continue
        weighed.add(n_bytes, _share(row))
        if (row.n, row.k) == (p.n, p.k):
            weighed.exact += n_bytes
        else:
            nearest_shapes.append(f"{p.name} {p.n}x{p.k} by {row.n}x{row.k}")
    low, mid, high = (weighed.total / seconds for seconds in weighed.times)
    low *= EFFICIENCY.low / EFFICIENCY.mid
    others = 1 - (weighed.exact + weighed.assumed) / weighed.total
    parts = [f"measured GEMV at the model's own shapes for {weighed.exact / weighed.total:.0%} of the bytes"]
    if nearest_shapes:
        shown = ", ".join(nearest_shapes[:3]) + (", ..." if len(nearest_shapes) > 3 else "")
        parts.append(f"at the nearest shape for {others:.0%} ({shown})")
    if weighed.assumed:
        parts.append(
            f"not measured in their format and so at the default for {weighed.assumed / weighed.total:.0%}"
            " (`roofprobe gemv` measures it)"
        )
    parts.append("the low end as far below as engines were seen to be")
    efficiency = Range(low, mid, high)
    return efficiency, efficiency_note(efficiency, "; ".join(parts))


def _nearest(profile: TuningProfile, p: Projection, name: str, tokens: int, side: Side) -> KernelFigure | None:
    ops = ("grouped_gemv", "gemv") if p.part == "expert" else ("gemv",)

    def distance(row: KernelFigure) -> tuple[float, float, int]:
        apart = hypot(log(row.n / p.n), log(row.k / p.k))
        return round(abs(log(row.batch / tokens)), 9), round(apart, 9), ops.index(row.op)

    rows = (
        row
        for row in profile.kernels
        if row.op in ops and row.format == name and row.side == side and row.ceiling_fraction is not None
    )
    return min(rows, key=distance, default=None)


def _share(row: KernelFigure) -> Range:
    """Of the ceiling, with the interval of the row's own rate; at most all of it."""
    assert row.ceiling_fraction is not None
    low, high = row.interval or (row.gb_per_s, row.gb_per_s)
    shares = (row.ceiling_fraction * rate / row.gb_per_s for rate in (low, row.gb_per_s, high))
    return Range(*(min(1.0, share) for share in shares))


def measured_all_reduce(profile: TuningProfile, ranks: int) -> CollectiveResult | None:
    """Of that many ranks; where several were measured, one between hosts and over NCCL before others."""
    return preferred(profile.collectives, ranks)


def _found_note(found: CollectiveResult, message: int) -> str:
    time = measured_link(found, message, found.world_size)
    text = f"all-reduce of {message} B {1e6 * (time.latency.mid + time.bandwidth):.3g} us, measured: {found.transport}"
    if time.loaded_latency is None:
        return f"{text}; its latency while memory is streamed was not measured (`roofprobe allreduce --latency`)"
    return f"{text}; {1e6 * time.loaded_latency:.3g} us while memory is streamed, which the low end takes"


def measured_link(found: CollectiveResult, message: int, ranks: int) -> LinkTime:
    """By the fit, in whose proportions the time measured at that very size stands where it was; else by the points."""
    measured = next((point.seconds for point in found.points if point.bytes == message and not point.wrong), None)
    loaded = min(
        (f for f in found.latency if f.mode == "loaded"), key=lambda f: abs(log(f.bytes / message)), default=None
    )
    loaded_seconds = None if loaded is None else loaded.p50_us * 1e-6
    bus_factor = 2 * (ranks - 1) / ranks
    if not found.fit:
        return _from_points(found, message, loaded_seconds)
    total = fitted_seconds(found.fit, message, bus_factor)
    scale = 1.0 if measured is None else measured / total
    segment = next((s for s in found.fit if message <= s.max_bytes), found.fit[-1])
    alpha = segment.alpha_us
    low, high = (alpha, alpha) if segment.interval is None else segment.interval.alpha_us
    latency = Range(*(value * 1e-6 * scale for value in (max(0.0, min(low, alpha)), alpha, max(alpha, high))))
    return LinkTime(latency, scale * (total - alpha * 1e-6), loaded_seconds)


def _from_points(found: CollectiveResult, message: int, loaded: float | None) -> LinkTime:
    """The next larger size's time, the largest's rate beyond it; what the smallest takes counts as latency."""
    total = message_seconds(found, message)
    latency = min(total, min(found.points, key=lambda point: point.bytes).seconds)
    return LinkTime(Range.of(latency), total - latency, loaded)
