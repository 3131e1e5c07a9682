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

from roofprobe.arguments import parser, positive_int
from roofprobe.console import Console, skipped_line
from roofprobe.errors import FAILED, NOT_MEASURED, OK, BadInput, run_command
from roofprobe.measurement import Skipped
from roofprobe.models import find_model, models, projections
from roofprobe.probes.command import add_flags
from roofprobe.probes.tune_journal import Journal, binding, kernels_digest
from roofprobe.probes.tune_results import entry_for, to_extend, verdict
from roofprobe.probes.tune_search import CONFIRM_TIMES, FINALISTS, DefaultFails, find_best
from roofprobe.probes.weights import BLOCK, FORMATS, QUANTIZED, QUICK_SHAPES, Shape
from roofprobe.profile import TuningProfile
from roofprobe.tuned import TunedKernel, TunedOp, with_tuned

if TYPE_CHECKING:
    from roofprobe.probes.sides import MeasuredSide
    from roofprobe.probes.tune_workloads import Target

OPS = ("gemv", "dequant", "stream")
STREAMS: tuple[TunedOp, ...] = ("read", "copy", "write", "triad")
MAX_BATCH = 16
EVERY_MODEL = "all"


def main(argv: list[str] | None = None) -> int:
    """Runs ``roofprobe tune``; returns the exit status."""
    top = parser(
        "roofprobe tune",
        "Find the fastest kernel configurations and keep them in a tuning profile.",
        f"--seconds is for one configuration; the {FINALISTS} fastest are then measured {CONFIRM_TIMES} times as long.",
    )
    top.add_argument("--op", choices=OPS, help="what to tune (default: all three)")
    top.add_argument("--format", choices=FORMATS, help="weight format (default: all)")
    top.add_argument("--model", metavar="M", help=f"every projection of a model of the catalogue, or '{EVERY_MODEL}'")
    top.add_argument("--n", type=positive_int, help=f"rows of the weight (default {QUICK_SHAPES[0].n})")
    top.add_argument("--k", type=positive_int, help=f"columns (default {QUICK_SHAPES[0].k})")
    top.add_argument("--batch", type=_counts, default=(1,), metavar="B,…", help="vectors at once, 1 to 16 (default 1)")
    top.add_argument("--tp", type=_counts, metavar="N,…", help="with --model: ranks that share it (default 1,2,4)")
    top.add_argument("--profile", type=Path, required=True, metavar="P", help="profile.json to extend or to make")
    add_flags(top, seconds=2)
    arguments = top.parse_args(argv)
    if arguments.model is not None and (arguments.n or arguments.k):
        top.error("argument --model: has its own shapes; leave out --n and --k")
    if arguments.model is None and arguments.tp is not None:
        top.error("argument --tp: needs --model")
    if max(arguments.batch) > MAX_BATCH:
        top.error(f"argument --batch: {max(arguments.batch)} is above {MAX_BATCH}: a larger batch is no longer a GEMV")
    if arguments.op == "dequant" and arguments.format not in (None, *QUANTIZED):
        top.error(f"argument --format: {arguments.format} weights need no dequantization")
    return run_command(lambda: _tune(arguments), "roofprobe tune")


def _counts(text: str) -> tuple[int, ...]:
    return tuple(dict.fromkeys(positive_int(part) for part in text.split(",")))


def _tune(arguments: argparse.Namespace) -> int:
    shapes = wanted_shapes(arguments)
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
        found, without = _targets(side, shapes, arguments)
        targets += found
        skipped += without
    for line in map(skipped_line, skipped):
        console.line(line)
    if not targets:
        raise BadInput("nothing to tune: no format's block divides K; choose another --format or shape")
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


def wanted_shapes(arguments: argparse.Namespace) -> list[Shape]:
    """Every shape and batch that was asked for, once. Raises BadInput for an unknown model or an impossible split."""
    if arguments.model is None:
        sizes = [(arguments.n or QUICK_SHAPES[0].n, arguments.k or QUICK_SHAPES[0].k)]
    else:
        chosen = models() if arguments.model == EVERY_MODEL else (find_model(arguments.model),)
        ranks = arguments.tp or (1, 2, 4)
        sizes = [(p.n, p.k) for model in chosen for tp in ranks for p in projections(model, tp)]
    return [Shape(n, k, batch) for n, k in dict.fromkeys(sizes) for batch in arguments.batch]


def _targets(
    side: MeasuredSide, shapes: Sequence[Shape], arguments: argparse.Namespace
) -> tuple[list[Target], list[Skipped]]:
    from roofprobe.probes.tune_workloads import stream_target, weight_target

    ops = OPS if arguments.op is None else (arguments.op,)
    formats = FORMATS if arguments.format is None else (arguments.format,)
    found: dict[str, Target] = {}
    skipped = []
    for op, allowed in (("gemv", FORMATS), ("dequant", QUANTIZED)):
        of_op = shapes if op == "gemv" else list(dict.fromkeys(Shape(s.n, s.k) for s in shapes))
        for shape in of_op if op in ops else ():
            for name in formats:
                if name not in allowed:
                    continue
                if shape.k % BLOCK[name]:
                    case = f"{side.side} {op} {name} {shape.n}x{shape.k}"
                    reason = f"K = {shape.k} is not a multiple of the block of {BLOCK[name]}"
                    skipped.append(Skipped(probe="tune", case=case, reason=reason))
                    continue
                target = weight_target("gemv" if op == "gemv" else "dequant", name, shape, side, arguments.seconds)
                found.setdefault(target.subject.name, target)
    for pattern in STREAMS if "stream" in ops else ():
        target = stream_target(pattern, side, arguments.seconds)
        found[target.subject.name] = target
    return list(found.values()), skipped


if __name__ == "__main__":
    raise SystemExit(main())
