"""The command line of the collective probes: nccl-tests' flags in both spellings, and a few of our own."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from roofprobe.arguments import duration, non_negative_int, parser, positive_int, size
from roofprobe.collectives.dtypes import Dtype, find_dtype
from roofprobe.collectives.exact import REDUCTIONS
from roofprobe.collectives.results import SweepPlan
from roofprobe.collectives.sizes import sweep_counts
from roofprobe.errors import BadInput


@dataclass(frozen=True)
class Request:
    """A validated command line."""

    plan: SweepPlan
    dtype: Dtype
    timeout_seconds: float
    time_limit_seconds: float | None
    output_file: Path | None
    record: Path | None
    json: bool
    ranks: int | None


def parse(prog: str, description: str, arguments: list[str]) -> Request:
    """Reads the flags. Unknown and malformed ones end as argparse does; raises BadInput for what can't be together."""
    given = _parser(prog, description).parse_args(arguments)
    dtype = find_dtype(given.datatype)
    if given.stepfactor is None:
        # As nccl-tests, -f wins over -i; without either, sizes double.
        given.stepfactor = 2 if given.stepbytes is None else 1
    plan = SweepPlan(
        min_bytes=given.minbytes,
        max_bytes=given.maxbytes,
        step_bytes=1 << 20 if given.stepbytes is None else given.stepbytes,
        step_factor=given.stepfactor,
        iterations=given.iters,
        warmup_iterations=given.warmup_iters,
        checks=given.check,
        blocking=given.blocking,
        graph_launches=given.cudagraph,
        per_iteration=bool(given.per_iter_timing),
        dtype=dtype.name,
        reduction=given.op,
    )
    sweep_counts(plan, dtype)
    if plan.graph_launches and (plan.blocking or plan.per_iteration):
        raise BadInput("-G launches whole loops, so it goes with neither -z nor -I")
    return Request(
        plan=plan,
        dtype=dtype,
        timeout_seconds=float(given.timeout),
        time_limit_seconds=given.time_limit,
        output_file=given.output_file,
        record=given.record,
        json=given.json,
        ranks=given.ranks,
    )


def _parser(prog: str, description: str) -> argparse.ArgumentParser:
    top = parser(prog, description)
    add = top.add_argument
    add("-b", "--minbytes", "--min-bytes", type=size, default=8, metavar="SIZE", help="smallest message (default 8)")
    add("-e", "--maxbytes", "--max-bytes", type=size, default=64 << 20, metavar="SIZE", help="largest (default 64M)")
    add("-f", "--stepfactor", "--step-factor", type=non_negative_int, metavar="N", help="times N each (default 2)")
    add("-i", "--stepbytes", "--step-bytes", type=size, metavar="SIZE", help="or plus SIZE each; -f wins over it")
    add("-n", "--iters", type=positive_int, default=20, metavar="N", help="timed operations a size (default 20)")
    add(
        "-w",
        "--warmup_iters",
        "--warmup-iters",
        type=non_negative_int,
        default=5,
        metavar="N",
        help="operations before them (default 5)",
    )
    add("-d", "--datatype", default="float", metavar="TYPE", help="nccl-tests' or torch's name (default float)")
    add("-o", "--op", choices=REDUCTIONS, default="sum", help="reduction (default sum)")
    add("-r", "--root", type=int, default=0, metavar="RANK", help="taken for nccl-tests' sake: this has no root")
    add("-c", "--check", type=non_negative_int, default=1, metavar="N", help="checked operations a size (default 1)")
    add("-G", "--cudagraph", type=non_negative_int, default=0, metavar="N", help="capture the loop, launch it N times")
    add(
        "-z",
        "--blocking",
        type=int,
        choices=range(4),
        default=0,
        help="0: never wait between operations; 1: wait and barrier; 2: wait; 3: both, barrier untimed",
    )
    add(
        "-T",
        "--timeout",
        type=positive_int,
        default=60,
        metavar="SECONDS",
        help="most seconds for joining and for any one collective (default 60)",
    )
    add(
        "-I",
        "--per_iter_timing",
        "--per-iter-timing",
        type=int,
        choices=(0, 1),
        default=0,
        help="1: add each iteration's least, most, p99 and variation to the table, all times to the JSON",
    )
    add("-J", "--output_file", "--output-file", type=Path, metavar="FILE", help="nccl-tests' JSON with fit, transport")
    add(
        "-t",
        "--nthreads",
        type=_only_one,
        default=1,
        metavar="1",
        help="threads a rank: only 1, taken for nccl-tests' sake",
    )
    add("-g", "--ngpus", type=_only_one, default=1, metavar="1", help="GPUs a thread: likewise")
    add("-m", "--agg_iters", "--agg-iters", type=_only_one, default=1, metavar="1", help="operations a group: likewise")
    add("--json", action="store_true", help="print the JSON document on stdout, everything else on stderr")
    add("--ranks", type=positive_int, metavar="N", help="ranks to start without torchrun (default: GPUs, else 2)")
    add("--time-limit", type=duration, metavar="TIME", help="begin no size that would not end within it, e.g. 30s")
    add("--record", type=Path, metavar="FILE", help="also write the raw record that `roofprobe run` keeps")
    return top


def _only_one(text: str) -> int:
    if text.strip() != "1":
        raise argparse.ArgumentTypeError(f"'{text}': only 1 is possible; start one rank a GPU with torchrun instead")
    return 1
