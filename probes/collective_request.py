"""What a collective probe was asked to do, once its command line has been read and found to make sense."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from roofprobe.collectives.collective import Collective
from roofprobe.collectives.dtypes import Dtype
from roofprobe.collectives.exact import NO_REDUCTION
from roofprobe.collectives.latency_plan import LatencyPlan
from roofprobe.collectives.results import SweepPlan


@dataclass(frozen=True)
class Program:
    """One of the commands that measure collectives."""

    name: str
    """As people call it; every complaint begins with it."""
    module: str
    description: str
    collective: Collective | None
    """What it measures; None where ``--collective`` says it."""


@dataclass(frozen=True)
class Request:
    """A validated command line."""

    collectives: tuple[Collective, ...]
    plan: SweepPlan
    """With the reduction and the root as given, whether or not a collective has one: see `plan_for`."""
    dtype: Dtype
    timeout_seconds: float
    time_limit_seconds: float | None
    output_file: Path | None
    record: Path | None
    json: bool
    ranks: int | None
    force: bool
    """Whether the buffers may take all of the available memory."""
    link_baseline: bool
    pairwise: bool
    """Whether first each two ranks are measured alone."""
    latency: LatencyPlan | None
    """How to take the latency of small all-reduces; None where it is not asked for."""

    def plan_for(self, collective: Collective) -> SweepPlan:
        """What applies to `collective`, with nccl-tests' words for what it lacks."""
        return replace(
            self.plan,
            reduction=self.plan.reduction if collective.prints_reduction else NO_REDUCTION,
            root=-1 if collective.root is None else self.plan.root,
        )

    def output_for(self, collective: Collective) -> Path | None:
        """The JSON file of `collective`: the one given, or of several FILE.json -> FILE.all_gather.json and so on.

        nccl-tests writes one document a run, so its readers take one collective a file.
        """
        if self.output_file is None or len(self.collectives) == 1:
            return self.output_file
        return self.output_file.with_suffix(f".{collective.name}{self.output_file.suffix}")
