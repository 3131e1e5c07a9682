"""From a run's rows to the figure that a check is judged by, or to the reason why there is none.

A row counts only if it is this check's: the right side, roofprobe's own kernel on it, from memory and not from a
cache, every element checked and right, undisturbed, unthrottled and possible. Rows of one case come from as many
processes; of several cases (shapes) each has to clear the limit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from roofprobe import hierarchical
from roofprobe.ceiling import Platform
from roofprobe.measurement import IMPOSSIBLE_ABOVE, Measurement, Side
from roofprobe.run_file import Run
from roofprobe.telemetry import Sampling

ValuesOf = Callable[[Measurement], list[float]]
"""A row's samples in the unit of the check."""

OWN_BACKEND: dict[Side, str] = {"device": "triton", "host": "host"}
PROCESSOR: dict[Side, str] = {"device": "GPU", "host": "CPU"}
PRECISION: dict[Side, float] = {"device": 0.01, "host": 0.02}
"""Half the width of the interval that the protocol asks for, as a share of the median."""
FASTER_THAN_ITS_CEILING = {"read": 1.1, "copy": 1.3}
"""A kernel above this share of what it is held against read a cache. A copy's mix of reads and writes is not a
dequantization's, so that one may be the faster one."""
NO_TIME = "impossible: no time above 0, no bytes, or pairs that are none"
LEAST_SECONDS, MOST_SECONDS = 1e-12, 3e7
MOST_BYTES = 1 << 60
"""Of a launch: no memory has so many."""
THROTTLED = frozenset({"sw_thermal_slowdown", "hw_thermal_slowdown", "hw_slowdown", "hw_power_brake_slowdown"})
POWER_CAP = "sw_power_cap"
"""How a large GPU works under a full matrix product: it lowers the SM clock and leaves the memory's alone."""
THROTTLED_SHARE = 0.01
"""Of the samples: from so many on the run counts as throttled; single ones come with every change of load."""


@dataclass(frozen=True)
class Estimate:
    """A figure to judge by, in the check's unit."""

    value: float
    interval: tuple[float, float] | None
    processes: int
    case: str
    """What was measured, for people."""
    limited: bool = False
    """Whether time ran out before the interval was as narrow as the protocol asks."""


@dataclass(frozen=True)
class Nothing:
    """There is no figure: none was taken (SKIP), or none of those that were can be judged by (INCONCLUSIVE)."""

    reason: str
    taken: bool = False


Figure = tuple[Estimate, ...] | Nothing
"""A check's figure: one for each case, of which there is at least one."""


def rate(run: Run, platform: Platform, sampling: Sampling | None, side: Side, op: str) -> Figure:
    """GB/s of one memory pattern."""
    found = _sound(run, platform, sampling, side, "memory", op, "float32")
    if isinstance(found, Nothing):
        return found
    return _by_case(found, side, lambda m: [m.useful_bytes / s / 1e9 for s in m.timing.accepted])


def share(run: Run, platform: Platform, sampling: Sampling | None, side: Side, op: str, format_: str) -> Figure:
    """A kernel's share of the ceiling that it was paired with."""
    found = _sound(run, platform, sampling, side, op, op, format_)
    if isinstance(found, Nothing):
        return found
    ceiling = "read" if op == "gemv" else "copy"
    paired = [m for m in found if m.reference == ceiling and m.reference_bytes and m.timing.reference_seconds]
    if not paired:
        return Nothing(f"no row is paired with the measured {ceiling}", taken=True)
    estimates = _by_case(
        paired,
        side,
        lambda m: [ratio * m.useful_bytes / (m.reference_bytes or 1) for ratio in m.timing.accepted_ratios],
    )
    most = FASTER_THAN_ITS_CEILING[ceiling]
    fastest = max(each.value for each in estimates)
    if fastest > most:
        return Nothing(f"{fastest:.2f} of the measured {ceiling}: more than memory gives, so from a cache", True)
    return estimates


def _sound(
    run: Run, platform: Platform, sampling: Sampling | None, side: Side, probe: str, op: str, format_: str
) -> list[Measurement] | Nothing:
    """The rows that count, or why there are none."""
    of_op = [m for m in run.measurements if (m.probe, m.op, m.format) == (probe, op, format_)]
    rows = [m for m in of_op if m.side == side and m.batch in (None, 1) and m.experts is None]
    rows = [m for m in rows if m.residency == "cold" and not m.memory.endswith(" only")]
    if not rows:
        if of_op and side == "device" and any(m.side == "host" for m in of_op):
            return Nothing(f"only the CPU side was measured{_because(run, side)}")
        return Nothing(f"not measured{_because(run, side)}")
    own = [m for m in rows if m.backend == OWN_BACKEND[side]]
    if not own:
        backends = ", ".join(sorted({m.backend for m in rows}))
        return Nothing(f"wrong backend: only {backends} was measured; expected {OWN_BACKEND[side]}", taken=True)
    if side == "device" and not run.environment.devices:
        return Nothing("rows of a GPU in a run whose environment lists none", taken=True)
    nominal = platform.nominal_gb_per_s(side)
    problems = {i: problem for i, m in enumerate(own) if (problem := row_problem(m, nominal)) is not None}
    sound = [m for i, m in enumerate(own) if i not in problems]
    if not sound:
        return Nothing("; ".join(dict.fromkeys(problems.values())), taken=True)
    slowed = throttled(sampling) if side == "device" else None
    return Nothing(slowed, taken=True) if slowed else sound


def row_problem(m: Measurement, nominal_gb_per_s: float | None) -> str | None:
    """Why a row can't be judged by, or None."""
    impossible = impossible_row(m, nominal_gb_per_s)
    if impossible is not None:
        return impossible
    if m.wrong is None:
        return "the result was not checked"
    if m.wrong:
        return f"{m.wrong} elements wrong"
    if m.timing.contended:
        return f"contended: {len(m.timing.rejected)} of {len(m.timing.seconds)} samples disturbed"
    return None


def possible(seconds: Sequence[float]) -> bool:
    """Whether these can be times of a launch: there are some, each above 0 and none longer than a year."""
    return bool(seconds) and all(LEAST_SECONDS < s < MOST_SECONDS for s in seconds)


def countable(m: Measurement) -> bool:
    """Whether a row's rate can be told at all: times above 0, of as many pairs as samples, and bytes."""
    t = m.timing
    paired = not t.reference_seconds or (possible(t.reference_seconds) and len(t.reference_seconds) == len(t.seconds))
    sizes = [size for size in (m.n, m.k, m.batch, m.experts, m.top_k) if size is not None]
    above_0 = min(sizes) > 0 and m.useful_bytes > 0 and m.nominal_gb_per_s != 0
    return possible(t.seconds) and paired and above_0 and m.useful_bytes < MOST_BYTES


def impossible_row(m: Measurement, nominal_gb_per_s: float | None) -> str | None:
    """Why a row can't be true, or None."""
    if not countable(m):
        return NO_TIME
    nominals = [n for n in (nominal_gb_per_s, m.nominal_gb_per_s) if n]
    if m.residency == "cold" and nominals and m.gb_per_s > IMPOSSIBLE_ABOVE * min(nominals):
        return f"impossible: {m.gb_per_s:.1f} GB/s is above the nominal {min(nominals):.1f} GB/s"
    return None


def throttled(sampling: Sampling | None, matmul: bool = False) -> str | None:
    """Why the GPU was slower than it can be, by its own word, or None; a power cap counts for a matrix product."""
    counting = THROTTLED | {POWER_CAP} if matmul else THROTTLED
    told = [set(s.reasons) & counting for s in (sampling.samples if sampling else ()) if s.reasons is not None]
    found = [reasons for reasons in told if reasons]
    if not found or len(found) < THROTTLED_SHARE * len(told):
        return None
    names = ", ".join(sorted(set().union(*found)))
    return f"throttled: {names} in {len(found)} of {len(told)} samples"


def _by_case(rows: Sequence[Measurement], side: Side, values: ValuesOf) -> tuple[Estimate, ...]:
    """A figure for each of the cases, over its processes."""
    cases: dict[tuple[int, int | None, str], list[Measurement]] = {}
    for m in rows:
        cases.setdefault((m.n, m.k, m.memory), []).append(m)
    found = []
    for (n, k, memory), members in cases.items():
        groups = [values(m) for m in members]
        value, interval = hierarchical.typical(groups), hierarchical.interval(groups)
        timed_out = all(m.timing.stopped_by == "time-limit" for m in members)
        wide = interval is None or interval[1] - interval[0] > 2 * PRECISION[side] * value
        case = memory if k is None else f"{n}x{k}, {memory}"
        found.append(Estimate(value, interval, len(groups), case, timed_out and (wide or len(groups) == 1)))
    return tuple(found)


def _because(run: Run, side: Side) -> str:
    """The reason that the run itself gives for a side that it left out."""
    told = [s.reason for s in run.skipped if s.case == f"{side} side"]
    told += [s.reason for s in run.skipped if s.probe == "run" and s.case.startswith("rows, ")]
    if not told and side == "device" and not run.environment.devices:
        told = ["torch finds no CUDA device"]
    if not told and run.ended is None:
        told = ["the run ended early"]
    if not told and run.ended is not None and run.ended.interrupted:
        told = ["the run was interrupted"]
    return f": {told[0]}" if told else " in this run"
