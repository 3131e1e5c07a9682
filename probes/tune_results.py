"""What tuning leaves behind: the profile's entries, and the lines that people read."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from roofprobe.errors import BadInput
from roofprobe.measurement import Environment
from roofprobe.probes.tune_search import Outcome, config_text
from roofprobe.profile import SCHEMA, TuningProfile
from roofprobe.robust import median
from roofprobe.tuned import TunedKernel

if TYPE_CHECKING:
    from roofprobe.probes.tune_workloads import Target


def to_extend(earlier: TuningProfile | None, environment: Environment, path: Path) -> TuningProfile:
    """The profile at `path`, or a new one. Raises BadInput for another machine's: its figures would be mixed."""
    if earlier is None:
        return TuningProfile(
            schema=SCHEMA, created=environment.created, environment=environment, ceilings={}, kernels=(), collectives=()
        )
    there, here = _machine(earlier.environment), _machine(environment)
    if there != here:
        raise BadInput(f"{path} was measured on {there}, this is {here}; choose another --profile")
    return earlier


def _machine(environment: Environment) -> str:
    return " with ".join([environment.cpu_model, *(device.name for device in environment.devices)])


def entry_for(target: Target, outcome: Outcome, kernels: str) -> TunedKernel:
    """The profile's entry for one target."""
    timing = outcome.best.timing
    assert timing is not None
    compared = bool(timing.reference_seconds)
    return TunedKernel(
        op=target.op,
        format=target.format,
        n=target.n,
        k=target.k,
        batch=target.batch,
        experts=target.experts,
        top_k=target.top_k,
        side=target.side.side,
        backend=target.side.backend,
        config=outcome.best.config,
        default=target.subject.space[0],
        keep_default=outcome.keep_default,
        speedup=outcome.best.speedup if compared else None,
        interval=outcome.interval,
        margin=target.subject.margin,
        seconds=median(timing.accepted),
        bytes=target.bytes,
        tried=len(target.subject.space),
        rejected=len({config_text(tried.config) for tried in outcome.rejected}),
        contended=timing.contended,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        kernels=kernels,
    )


def verdict(target: Target, entry: TunedKernel, outcome: Outcome) -> list[str]:
    """The verdict, and each configuration whose result was wrong."""
    interval = "" if entry.interval is None else f" [{entry.interval[0]:.3f}, {entry.interval[1]:.3f}]"
    gain = "nothing was faster" if entry.speedup is None else f"{entry.speedup:.3f}x the default{interval}"
    busy = "; CONTENDED: other work disturbed it" if entry.contended else ""
    rate = entry.bytes / entry.seconds / 1e9
    verdict = "keep the default" if entry.keep_default else "use"
    best = f"{config_text(entry.config)}: {gain}, {rate:.1f} GB/s, best of {entry.tried}{busy}"
    lines = [f"{target.subject.name:<43} {verdict}: {best}"]
    lines += [f"  WRONG: {config_text(tried.config)}: {tried.problem}" for tried in outcome.rejected if tried.wrong]
    others = [tried for tried in outcome.rejected if not tried.wrong]
    if others:
        lines.append(f"  {len(others)} left out, such as {config_text(others[0].config)}: {others[0].problem}")
    return lines
