"""The main job: measure everything that this machine can run, and leave a profile, a report and the raw records.

First each side's memory, whose read and copy are the ceilings; then the kernels, each row paired with its ceiling;
then the all-reduce. Records reach the disk as they are made: Ctrl-C, a crash or a full disk costs the row that was
under way and no other.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
import re
import socket
import sys
import time
from typing import TYPE_CHECKING

from roofprobe.arguments import parser, size
from roofprobe.collectives.latency_plan import QUICK_SIZES, LatencyPlan, decode_sizes
from roofprobe.console import HEADER, Console, row, skipped_line
from roofprobe.errors import FAILED, NOT_MEASURED, OK, BadInput, RoofprobeError, run_command
from roofprobe.measurement import Ended, Environment, Measurement, Skipped, exit_status
from roofprobe.probes import weights
from roofprobe.probes.baselines import add_baselines_flag
from roofprobe.probes.grouped import GPT_OSS, ExpertShape
from roofprobe.run_file import RunWriter, read_run

if TYPE_CHECKING:
    from roofprobe.probes.sides import MeasuredSide


@dataclass(frozen=True)
class Thoroughness:
    """How much to measure, and the most seconds that one row may take."""

    memory_seconds: float
    kernel_seconds: float
    collective_seconds: float
    shapes: Sequence[weights.Shape]
    experts: Sequence[ExpertShape] = ()
    latency: LatencyPlan | None = None
    """Of small all-reduces."""
    baselines: bool = True
    """Whether other people's kernels are measured too; `--baselines` and `--no-baselines` decide otherwise."""


QUICK = Thoroughness(
    memory_seconds=2,
    kernel_seconds=1.5,
    collective_seconds=5,
    latency=LatencyPlan(QUICK_SIZES, samples=1000, seconds=5),
    shapes=weights.QUICK_SHAPES,
    baselines=False,
)
DEFAULT = Thoroughness(
    memory_seconds=10,
    kernel_seconds=5,
    collective_seconds=20,
    latency=LatencyPlan(decode_sizes(), samples=1000, seconds=30),
    shapes=weights.DEFAULT_SHAPES,
)
FULL = Thoroughness(
    memory_seconds=30,
    kernel_seconds=30,
    collective_seconds=60,
    latency=LatencyPlan(decode_sizes(), samples=10_000, seconds=240),
    shapes=weights.FULL_SHAPES,
    experts=(GPT_OSS,),
)


def main(argv: list[str] | None = None) -> int:
    """Runs ``roofprobe run``; returns the exit status."""
    top = parser("roofprobe run", "Measure everything that this machine can run; write a profile and a report.")
    depth = top.add_mutually_exclusive_group()
    depth.add_argument("--quick", action="store_true", help="a look, under a minute")
    depth.add_argument("--full", action="store_true", help="every shape, long enough for narrow intervals")
    top.add_argument("--out", type=Path, metavar="DIR", help="folder for the results (default results/TIME-HOST)")
    top.add_argument("--side", choices=["all", "device", "host"], default="all", help="GPU, CPU or both (default)")
    top.add_argument(
        "--memory", type=size, metavar="SIZE", help="most memory to use (default: a quarter of what is available)"
    )
    add_baselines_flag(top, default=None)
    top.add_argument("--no-history", action="store_true", help="keep the run out of this machine's history")
    top.add_argument("--json", action="store_true", help="print the profile on stdout, everything else on stderr")
    arguments = top.parse_args(argv)
    return run_command(lambda: _run(arguments), "roofprobe run")


def _run(arguments: argparse.Namespace) -> int:
    start = time.perf_counter()
    thoroughness = QUICK if arguments.quick else FULL if arguments.full else DEFAULT
    if arguments.baselines is not None:
        thoroughness = replace(thoroughness, baselines=arguments.baselines)
    out = arguments.out or default_folder()
    console = Console(sys.stderr if arguments.json else sys.stdout)
    if (out / "measurements.jsonl").exists():
        raise BadInput(f"{out} already holds a run: choose another folder with --out")
    writer = RunWriter(out / "measurements.jsonl")
    try:
        environment, sides, skipped = _look(arguments)
    except BaseException:
        writer.discard()
        raise
    interrupted = False
    failures: list[str] = []
    try:
        writer.write(environment)
        for each in skipped:
            writer.write(each)
            console.line(skipped_line(each))
        failures = _measure_everything(environment, sides, thoroughness, writer, console)
    except KeyboardInterrupt:
        interrupted = True
    writer.write(Ended(seconds=time.perf_counter() - start, interrupted=interrupted))
    writer.close()
    if not arguments.no_history:
        _remember(out, console)
    return _finish(out, console, interrupted, failures, arguments.json)


def _remember(out: Path, console: Console) -> None:
    """One line into the machine's history, which `roofprobe compare --against-history` reads; it never fails a run."""
    from roofprobe.comparison.history import remember

    said = remember(read_run(out), out)
    if said is not None:
        console.line(said)


def default_folder() -> Path:
    """``results/20260131T120000Z-host``: sorts by time, and says where it was measured."""
    host = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())
    return Path("results") / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{host}"


def _look(arguments: argparse.Namespace) -> tuple[Environment, list[MeasuredSide], list[Skipped]]:
    from roofprobe.environment import read_environment
    from roofprobe.probes.sides import find_sides

    environment = read_environment()
    return environment, *find_sides(environment, arguments.side, arguments.memory)


def _measure_everything(
    environment: Environment,
    sides: Sequence[MeasuredSide],
    thoroughness: Thoroughness,
    writer: RunWriter,
    console: Console,
) -> list[str]:
    """Returns what went wrong without ending the run: an all-reduce whose ranks died costs no other row."""
    shapes = thoroughness.shapes
    formats = len(weights.FORMATS), len(weights.QUANTIZED)
    per_side = 5 + formats[0] * len([*shapes, *thoroughness.experts])
    per_side += formats[1] * len({(s.n, s.k) for s in shapes})
    groups = collective_groups(environment)
    with console.progress(per_side * len(sides) + len(groups)):
        for side in sides:
            _measure_side(side, thoroughness, writer, console)
        return [
            failure
            for ranks in groups
            if (failure := _measure_all_reduce(ranks, thoroughness, writer, console)) is not None
        ]


def _measure_side(side: MeasuredSide, thoroughness: Thoroughness, writer: RunWriter, console: Console) -> None:
    from roofprobe.probes.comparison import comparisons, line
    from roofprobe.probes.dequant import probe_dequant, without_batches
    from roofprobe.probes.gemv import probe_gemv
    from roofprobe.probes.grouped import probe_grouped
    from roofprobe.probes.memory import allocate, probe_memory

    console.line(side.ceiling_line())
    console.line(HEADER)

    measured: list[Measurement] = []

    def on_result(found: Measurement | Skipped) -> None:
        writer.write(found)
        if isinstance(found, Skipped):
            console.line(skipped_line(found))
        else:
            measured.append(found)
            console.line(row(found))

    console.step(f"{side.side} memory: first touch")
    buffers = allocate(side)
    probe_memory(side, buffers, thoroughness.memory_seconds, console.step, on_result, thoroughness.baselines)
    # The kernels' weights take the room of the third array: a run never holds more than three.
    buffers = buffers.without_c()
    for probe, shapes, formats in (
        (probe_gemv, thoroughness.shapes, weights.FORMATS),
        (probe_dequant, without_batches(thoroughness.shapes), weights.QUANTIZED),
    ):
        for each in weights.undivided(probe.__name__.removeprefix("probe_"), shapes, formats):
            on_result(each)
        sources = weights.random_sources(shapes, formats)
        probe(side, buffers, sources, thoroughness.kernel_seconds, console.step, on_result, thoroughness.baselines)
    if thoroughness.experts:
        for each in weights.undivided("gemv", thoroughness.experts, weights.FORMATS):
            on_result(each)
        limits = thoroughness.kernel_seconds, console.step, on_result, thoroughness.baselines
        probe_grouped(side, buffers, thoroughness.experts, weights.FORMATS, *limits)
    for compared in comparisons(measured):
        console.line(line(compared))


def collective_groups(environment: Environment) -> list[int]:
    """World sizes to measure: one rank to one a GPU; two ranks on loopback where there is no GPU."""
    return list(range(1, len(environment.devices) + 1)) if environment.devices else [2]


def _measure_all_reduce(ranks: int, thoroughness: Thoroughness, writer: RunWriter, console: Console) -> str | None:
    from roofprobe.probes.allreduce import measure_local

    console.step(f"all-reduce, {ranks} ranks")
    try:
        writer.write(
            measure_local(
                ranks,
                seconds=thoroughness.collective_seconds,
                latency=thoroughness.latency,
                on_line=console.line,
            )
        )
    except RoofprobeError as error:
        writer.write(Skipped(probe="allreduce", case=f"{ranks} ranks", reason=str(error)))
        return str(error)
    return None


def _finish(out: Path, console: Console, interrupted: bool, failures: list[str], as_json: bool) -> int:
    from roofprobe.profile import build_profile

    run = read_run(out)
    profile = build_profile(run)
    profile.save(out / "profile.json")
    report = _report(out)
    console.line()
    for failure in failures:
        console.line(f"FAILED: {failure}")
    if interrupted:
        console.line(f"interrupted: {len(run.measurements)} rows and {len(run.collectives)} collectives are kept")
    console.line(f"records  {out / 'measurements.jsonl'}")
    console.line(f"profile  {out / 'profile.json'}")
    console.line(f"report   {report}")
    if as_json:
        print((out / "profile.json").read_text(), end="")
    status = exit_status(run.measurements)
    wrong = [point.wrong for c in run.collectives for point in c.points]
    wrong += [point.wrong for c in run.collectives for point in c.latency]
    if failures or any(wrong):
        status = FAILED
    return status or (NOT_MEASURED if interrupted else OK)


def _report(out: Path) -> str:
    """Draws it; a library that is missing then, after minutes of measuring, is said and costs the drawing alone."""
    try:
        from roofprobe.report import write_report

        return str(write_report(out))
    except ModuleNotFoundError as error:
        return f"not drawn: {error.name} is not installed; `roofprobe report {out}` draws it where it is"


if __name__ == "__main__":
    raise SystemExit(main())
