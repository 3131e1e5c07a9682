"""Finds the fastest configuration of each kernel on this machine and keeps it in a tuning profile.

Every configuration in the search space (`kernels/search.py`) is checked, timed against the default in the same run,
and the best few confirmed on fresh data (`tune_search`). The profile gets the winner with its gain, or the word that
the default stays. Ctrl-C costs the measurement under way: the same command goes on from there.

    roofprobe tune --model gpt-oss-120b --tp 1,2 --format mxfp4 --profile profile.json
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
import sys
from typing import TYPE_CHECKING

import msgspec

from roofprobe.arguments import parser
from roofprobe.console import Console, skipped_line
from roofprobe.errors import FAILED, NOT_MEASURED, OK, BadInput, run_command
from roofprobe.measurement import Skipped
from roofprobe.probes.command import add_flags
from roofprobe.probes.grouped import ExpertShape
from roofprobe.probes.tune_journal import Journal, binding, kernels_digest
from roofprobe.probes.tune_results import entry_for, to_extend, verdict
from roofprobe.probes.tune_search import CONFIRM_TIMES, FINALISTS, DefaultFails, find_best
from roofprobe.probes.tune_shapes import (
    add_tune_shape_flags,
    check_tune_shape_flags,
    wanted_experts,
    wanted_shapes,
)
from roofprobe.probes.weights import BLOCK, FORMATS, QUANTIZED, Shape
from roofprobe.profile import TuningProfile
from roofprobe.tuned import TunedKernel, TunedOp, with_tuned

if TYPE_CHECKING:
    from roofprobe.probes.sides import MeasuredSide
    from roofprobe.probes.tune_workloads import Target

OPS = ("gemv", "grouped_gemv", "dequant", "stream")
STREAMS: tuple[TunedOp, ...] = ("read", "copy", "write", "triad")


def main(argv: list[str] | None = None) -> int:
    """Runs ``roofprobe tune``; returns the exit status."""
    words = sys.argv[1:] if argv is None else argv
    if "--nccl" in words:
        from roofprobe.probes import tune_nccl

        return tune_nccl.main(words)
    top = parser(
        "roofprobe tune",
        "Find the fastest kernel configurations and keep them in a tuning profile.",
        f"--seconds is for one configuration; the {FINALISTS} fastest are then measured {CONFIRM_TIMES} times as long."
        "\n"
        "`roofprobe tune --nccl` finds NCCL's settings instead; it has flags of its own: roofprobe tune --nccl --help",
    )
    top.add_argument("--op", choices=OPS, help="what to tune (default: all)")
    top.add_argument("--format", choices=FORMATS, help="weight format (default: all)")
    add_tune_shape_flags(top)
    top.add_argument("--profile", type=Path, required=True, metavar="P", help="profile.json to extend or to make")
    add_flags(top, seconds=2)
    arguments = top.parse_args(words)
    check_tune_shape_flags(top, arguments)
    if arguments.op == "dequant" and arguments.format not in (None, *QUANTIZED):
        top.error(f"argument --format: {arguments.format} weights need no dequantization")
    return run_command(lambda: _tune(arguments), "roofprobe tune")


def _tune(arguments: argparse.Namespace) -> int:
    shapes, experts = wanted_shapes(arguments), wanted_experts(arguments)
    path = arguments.profile / "profile.json" if arguments.profile.is_dir() else arguments.profile
    earlier = TuningProfile.load(path) if path.exists() else None

    from roofprobe.environment import read_environment
    from roofprobe.probes.sides import find_sides

    environment = read_environment()
    profile = to_extend(earlier, environment, path)
    console = Console(sys.stderr if arguments.json else sys.stdout)
    sides, skipped = find_sides(environment, arguments.side, arguments.memory)
    targets = []
    for side in sides:
        console.line(side.ceiling_line())
        found, without = _targets(side, shapes, experts, arguments)
        targets += found
        skipped += without
    for line in map(skipped_line, skipped):
        console.line(line)
    if not targets:
        why = f"{arguments.model} has no experts" if not experts else "no format's block divides K"
        raise BadInput(f"nothing to tune: {why}; choose another --op, --format or shape")
    entries: list[TunedKernel] = []
    with Journal(path.with_name(f"{path.name}.tuning.jsonl"), binding(environment, kernels_digest())) as journal:
        if len(journal):
            console.line(f"{len(journal)} measurements of an interrupted run are taken from {journal.path}")
        try:
            status = _tune_each(targets, profile, path, journal, console, entries)
            journal.finish(target.subject.key for target in targets)
            console.line(f"profile  {path}")
        except KeyboardInterrupt:
            status = NOT_MEASURED
            console.line(f"interrupted: {len(entries)} of {len(targets)} are in {path}; the same command goes on")
    if arguments.json:
        document = {"environment": environment, "profile": str(path), "tuned": entries, "skipped": skipped}
        print(msgspec.json.format(msgspec.json.encode(document)).decode())
    return status


def _tune_each(
    targets: Sequence[Target],
    profile: TuningProfile,
    path: Path,
    journal: Journal,
    console: Console,
    entries: list[TunedKernel],
) -> int:
    """Adds each target's entry to `entries` and to the profile at `path`; returns the exit status.

    The profile is whole after each target: what an interruption leaves can be used as it is.
    """
    status = OK
    kernels = kernels_digest()
    with console.progress(sum(len(target.subject.space) - 1 + FINALISTS for target in targets)):
        for target in targets:
            try:
                outcome = find_best(target.subject, journal, console.step)
            except DefaultFails as error:
                console.line(f"FAILED: {error}")
                status = FAILED
                continue
            entries.append(entry_for(target, outcome, kernels))
            msgspec.structs.replace(profile, tuned=with_tuned(profile.tuned, entries)).save(path)
            for line in verdict(target, entries[-1], outcome):
                console.line(line)
            if any(tried.wrong for tried in outcome.rejected):
                status = FAILED
    return status


def _targets(
    side: MeasuredSide, shapes: Sequence[Shape], experts: Sequence[ExpertShape], arguments: argparse.Namespace
) -> tuple[list[Target], list[Skipped]]:
    from roofprobe.probes.tune_experts import grouped_target
    from roofprobe.probes.tune_workloads import stream_target, weight_target

    ops = OPS if arguments.op is None else (arguments.op,)
    formats = FORMATS if arguments.format is None else (arguments.format,)
    found: dict[str, Target] = {}
    skipped = []
    unbatched = list(dict.fromkeys(Shape(s.n, s.k) for s in shapes))
    of_op: dict[str, Sequence[Shape | ExpertShape]] = {"gemv": shapes, "grouped_gemv": experts, "dequant": unbatched}
    for op in (op for op in ops if op != "stream"):
        for shape in of_op[op]:
            for name in formats:
                if op == "dequant" and name not in QUANTIZED:
                    continue
                if shape.k % BLOCK[name]:
                    case = f"{side.side} {op} {name} {shape.n}x{shape.k}"
                    reason = f"K = {shape.k} is not a multiple of the block of {BLOCK[name]}"
                    skipped.append(Skipped(probe="tune", case=case, reason=reason))
                    continue
                if isinstance(shape, ExpertShape):
                    target = grouped_target(name, shape, side, arguments.seconds)
                else:
                    target = weight_target("gemv" if op == "gemv" else "dequant", name, shape, side, arguments.seconds)
                found.setdefault(target.subject.name, target)
    for pattern in STREAMS if "stream" in ops else ():
        target = stream_target(pattern, side, arguments.seconds)
        found[target.subject.name] = target
    return list(found.values()), skipped


if __name__ == "__main__":
    raise SystemExit(main())
