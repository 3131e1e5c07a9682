"""Figures that are no row of a kernel: the matrix product, sentinels under load, both sides together, the link."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
import re

from roofprobe import hierarchical
from roofprobe.acceptance.estimates import (
    NO_TIME,
    OWN_BACKEND,
    PROCESSOR,
    Estimate,
    Figure,
    Nothing,
    possible,
    throttled,
)
from roofprobe.load_record import Contention, MatmulRate, SentinelRun
from roofprobe.measurement import IMPOSSIBLE_ABOVE, CollectiveMeasurement, CollectivePoint, Side
from roofprobe.robust import median, median_interval
from roofprobe.run_file import Run
from roofprobe.telemetry import Sampling

LARGE_BYTES = 64 << 20
"""Smaller messages tell of latency too."""
SMALL_BYTES = range(8 * 1000, (32 << 10) + 1)
"""8 to 32 KB, whichever kilo is meant."""


def matmul(run: Run, sampling: Sampling | None) -> tuple[Figure, float | None]:
    """TFLOP/s of the GPU's bf16 matrix product, and what its own SM clock would have allowed."""
    taken = [m for m in run.matmuls if m.side == "device" and m.dtype == "bfloat16"]
    if not taken:
        return Nothing(_why_not(run, "matmul", "no bf16 matrix product of the GPU was measured")), None
    problems = [_product_problem(m) for m in taken]
    sound = [m for m, problem in zip(taken, problems) if problem is None]
    if not sound:
        return Nothing(problems[0] or "", taken=True), None
    slowed = throttled(sampling, matmul=True)
    if slowed:
        return Nothing(slowed, taken=True), None
    groups = [[m.flops / s / 1e12 for s in m.timing.accepted] for m in sound]
    peaks = [m.peak_tflop_per_s for m in sound if m.peak_tflop_per_s is not None]
    case = f"{sound[0].m}x{sound[0].n}x{sound[0].k}, {sound[0].backend}"
    found = Estimate(hierarchical.typical(groups), hierarchical.interval(groups), len(groups), case)
    return (found,), median(peaks) if peaks else None


def _product_problem(m: MatmulRate) -> str | None:
    """Why a matrix product can't be judged by, or None."""
    if not possible(m.timing.seconds):
        return NO_TIME
    if m.invalid is not None:
        return m.invalid
    if m.wrong is None:
        return "the result was not checked"
    return "contended" if m.timing.contended else None


def stability(run: Run, sampling: Sampling | None, side: Side, sentinel: str) -> Figure:
    """A sentinel's rate under load, and after it, over its rate before."""
    alone = [s for s in run.sentinels if s.side == side and s.sentinel == sentinel and s.beside is None]
    own = [s for s in alone if s.backend == OWN_BACKEND[side]]
    if not alone:
        return Nothing(_why_not(run, "sentinels", f"no {sentinel} sentinel of the {PROCESSOR[side]} was run"))
    if not own:
        return Nothing(f"wrong backend: {alone[0].backend}; expected {OWN_BACKEND[side]}", taken=True)
    bad = next((s.invalid for s in own if s.invalid is not None), None)
    if bad is not None:
        return Nothing(bad, taken=True)
    if all(s.wrong is None for s in own):
        return Nothing("no sentinel's result was checked", taken=True)
    undisturbed = [s for s in own if not s.contended]
    groups = {phase: _rates(s for s in undisturbed if s.phase == phase) for phase in ("before", "during", "after")}
    missing = [phase for phase, rates in groups.items() if not rates]
    if missing:
        disturbed = (
            f" ({len(own) - len(undisturbed)} of {len(own)} were disturbed)" if len(undisturbed) < len(own) else ""
        )
        return Nothing(f"no sentinel {' or '.join(missing)} the load{disturbed}", taken=True)
    if side == "device" and (slowed := throttled(sampling)):
        return Nothing(slowed, taken=True)
    before = groups["before"]
    return tuple(
        Estimate(
            hierarchical.typical(groups[phase]) / hierarchical.typical(before),
            hierarchical.ratio_interval(groups[phase], before),
            len(before) + len(groups[phase]),
            f"{sentinel} {phase} the load",
        )
        for phase in ("during", "after")
    )


def _rates(runs: Iterable[SentinelRun]) -> list[list[float]]:
    rates = []
    for s in runs:
        moved = s.bytes if s.bytes is not None else s.flops
        assert moved is not None
        rates.append([moved / seconds / 1e9 for seconds in s.accepted])
    return rates


def together(run: Run, nominal_gb_per_s: float | None, sampling: Sampling | None) -> Figure:
    """GB/s that GPU and CPU read together from one memory: the fitted ceiling, or the most that was reached."""
    taken = [c for c in run.contentions if set(c.sides) == {"device", "host"}]
    if not taken:
        return Nothing(_why_not(run, "contention", "GPU and CPU were not measured together"))
    c = taken[-1]
    if not c.shared:
        return Nothing("the GPU has memory of its own")
    if c.wrong is None or c.wrong:
        return Nothing("the result was not checked" if c.wrong is None else f"{c.wrong} elements wrong", taken=True)
    both = [p for p in c.points if p.device and p.cpu_threads and p.device_bytes and p.window_seconds > 0]
    both = [p for p in both if len(p.device_bytes) == len(p.host_bytes)]
    if not both:
        return Nothing("no point of the curve has GPU and CPU together", taken=True)
    impossible = impossible_curve(c, nominal_gb_per_s)
    if impossible:
        return Nothing(impossible, taken=True)
    if slowed := throttled(sampling):
        return Nothing(slowed, taken=True)
    if c.ceiling is not None and c.ceiling.gb_per_s is not None:
        return (Estimate(c.ceiling.gb_per_s, c.ceiling.interval, 1, f"shared ceiling of {c.memory}"),)
    best = max(both, key=lambda p: p.gb_per_s)
    beside = f"{best.cpu_threads} CPU threads beside"
    return (Estimate(best.gb_per_s, median_interval(best.totals_gb_per_s), 1, beside),)


def impossible_curve(c: Contention, nominal_gb_per_s: float | None) -> str | None:
    """Why a contention curve can't be true, or None; what two memories give together has no ceiling."""
    if not c.shared or nominal_gb_per_s is None:
        return None
    most = max([p.gb_per_s for p in c.points] + [c.ceiling.gb_per_s or 0 if c.ceiling else 0])
    if most <= IMPOSSIBLE_ABOVE * nominal_gb_per_s:
        return None
    return f"impossible: {most:.1f} GB/s is above the nominal {nominal_gb_per_s:.1f} GB/s"


def across(run: Run, nodes: int, op: str | None = None) -> list[CollectiveMeasurement]:
    """The collectives that went over at least so many hosts."""
    found = []
    for c in run.collectives:
        hosts = re.search(r"\bon (\d{1,4}) hosts\b", c.transport)
        if hosts and int(hosts[1]) >= nodes and c.world_size >= nodes and op in (None, c.op):
            found.append(c)
    return found


def bus_bandwidth(collectives: Sequence[CollectiveMeasurement]) -> Figure:
    """GB/s over the bus at the largest message, of the fewest 64 MiB."""
    usable = _by_nccl(collectives)
    if isinstance(usable, Nothing):
        return usable
    largest = max((p.bytes for c in usable for p in c.points), default=0)
    if largest < LARGE_BYTES:
        return Nothing(f"the largest message had {largest} B; bandwidth takes {LARGE_BYTES >> 20} MiB or more", True)
    found = [(c, p) for c in usable for p in c.points if p.bytes == largest]
    problem = next((text for _, p in found if (text := _point_problem(p))), None)
    if problem:
        return Nothing(problem, taken=True)
    groups = [[c.bus_factor * p.bytes / s / 1e9 for s in p.alone_seconds] for c, p in found]
    case = f"{largest >> 20} MiB, {usable[0].transport}"
    return (Estimate(hierarchical.typical(groups), hierarchical.interval(groups), len(groups), case),)


def small_latency(collectives: Sequence[CollectiveMeasurement]) -> Figure:
    """Microseconds of each size from 8 to 32 KB, in nccl-tests' loop."""
    usable = _by_nccl(collectives)
    if isinstance(usable, Nothing):
        return usable
    sizes = sorted({p.bytes for c in usable for p in c.points if p.bytes in SMALL_BYTES})
    if not sizes:
        return Nothing("no message of 8 to 32 KiB was measured", taken=True)
    estimates = []
    for size in sizes:
        points = [p for c in usable for p in c.points if p.bytes == size]
        problem = next((text for p in points if (text := _point_problem(p))), None)
        if problem:
            return Nothing(problem, taken=True)
        groups = [[s * 1e6 for s in p.alone_seconds] for p in points]
        typical = hierarchical.typical(groups)
        estimates.append(Estimate(typical, hierarchical.interval(groups), len(groups), f"{size} B"))
    return tuple(estimates)


def _by_nccl(collectives: Sequence[CollectiveMeasurement]) -> list[CollectiveMeasurement] | Nothing:
    usable = [c for c in collectives if c.backend == "nccl"]
    if usable:
        return usable
    backends = ", ".join(sorted({c.backend for c in collectives}))
    return Nothing(f"wrong backend: {backends} carried the data; expected nccl", taken=True)


def _point_problem(p: CollectivePoint) -> str | None:
    if p.wrong is None:
        return f"the result of {p.bytes} B was not checked"
    if p.wrong:
        return f"{p.wrong} elements wrong at {p.bytes} B"
    if not possible(p.alone_seconds):
        return f"impossible: no time above 0 at {p.bytes} B"
    return None


def _why_not(run: Run, probe: str, otherwise: str) -> str:
    """What the run says about a probe that it left out."""
    told = [s.reason for s in run.skipped if s.probe == probe]
    if not told and not run.environment.devices and probe in ("matmul", "contention", "telemetry"):
        told = ["torch finds no CUDA device"]
    return f"{otherwise}: {told[0]}" if told else otherwise
