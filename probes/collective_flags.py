"""The command line of the collective probes: nccl-tests' flags in both spellings, and a few of our own.

Where nccl-tests takes ``all`` for a type or a reduction, or -1 for all roots, one run measures one: a table then has
each size once, and the fit belongs to it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from roofprobe.arguments import duration, non_negative_int, parser, positive_int, size
from roofprobe.collectives.all_reduce import ALL_REDUCE
from roofprobe.collectives.dtypes import find_dtype
from roofprobe.collectives.every import EVERY, find_collectives
from roofprobe.collectives.exact import REDUCTIONS
from roofprobe.collectives.latency_plan import LatencyPlan, decode_sizes
from roofprobe.collectives.results import SweepPlan
from roofprobe.collectives.sizes import sweep_elements
from roofprobe.errors import BadInput
from roofprobe.probes.collective_request import Program, Request


def parse(program: Program, arguments: list[str]) -> Request:
    """Reads the flags. Unknown and malformed ones end as argparse does; raises BadInput for what can't be together."""
    given = _parser(program).parse_args(arguments)
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
        root=given.root,
    )
    sweep_elements(plan, dtype)
    if plan.graph_launches and (plan.blocking or plan.per_iteration):
        raise BadInput("-G launches whole loops, so it goes with neither -z nor -I")
    named = (program.collective,) if program.collective else find_collectives(given.collective)
    latency = None
    if given.latency:
        if ALL_REDUCE not in named:
            raise BadInput("--latency is all_reduce's, and --collective leaves that out; add all_reduce to it")
        latency = LatencyPlan(given.latency_sizes or decode_sizes(), given.latency_samples, given.latency_limit)
    return Request(
        collectives=named,
        plan=plan,
        dtype=dtype,
        timeout_seconds=float(given.timeout),
        time_limit_seconds=given.time_limit,
        output_file=given.output_file,
        record=given.record,
        json=given.json,
        ranks=given.ranks,
        force=given.force,
        link_baseline=given.link_baseline,
        pairwise=given.pairwise,
        latency=latency,
    )


def _parser(program: Program) -> argparse.ArgumentParser:
    top = parser(program.name, program.description)
    add = top.add_argument
    if program.collective is None:
        add(
            "--collective",
            required=True,
            metavar="NAME[,NAME…]",
            help=f"all, or some of {', '.join(collective.name for collective in EVERY)}",
        )
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
    add("-o", "--op", type=_reduction, default="sum", metavar="OP", help=f"{', '.join(REDUCTIONS)} (default sum)")
    add("-r", "--root", type=_root, default=0, metavar="RANK", help="of broadcast and reduce (default 0)")
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
    add(
        "-J",
        "--output_file",
        "--output-file",
        type=Path,
        metavar="FILE",
        help="nccl-tests' JSON with fit and transport; of several collectives one file each, FILE.NAME.json",
    )
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
    add(
        "--json",
        action="store_true",
        help="print the JSON document (of several collectives a list) on stdout, everything else on stderr",
    )
    add("--ranks", type=positive_int, metavar="N", help="ranks to start without torchrun (default: GPUs, else 2)")
    add(
        "--time-limit",
        type=duration,
        metavar="TIME",
        help="begin no size that would not end within it, e.g. 30s; each collective has it anew",
    )
    add("--force", action="store_true", help="let the buffers take more than a quarter of the available memory")
    add("--record", type=Path, metavar="FILE", help="also write the raw record that `roofprobe run` keeps")
    add(
        "--link-baseline",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="between hosts, first measure the link without NCCL or gloo, by perftest or TCP: a few seconds (default)",
    )
    add("--pairwise", action="store_true", help="first measure each two ranks alone, and name a slow rank or link")
    add("--latency", action="store_true", help="after all_reduce's table, its latency at the sizes of decoding")
    add(
        "--latency-samples",
        type=positive_int,
        default=1000,
        metavar="N",
        help="isolated operations a size (default 1000; p99.9 is told from 10000)",
    )
    add(
        "--latency-sizes",
        type=_sizes,
        metavar="SIZE[,SIZE…]",
        help="message sizes (default 1K to 256K doubling, and those of the models in the catalogue)",
    )
    add(
        "--latency-limit",
        type=duration,
        metavar="TIME",
        help="most time for taking samples, shared among sizes and modes; fewer samples are then taken, and counted",
    )
    return top


def _reduction(text: str) -> str:
    if text not in REDUCTIONS:
        advice = "one at a time" if text == "all" else "no such reduction"
        raise argparse.ArgumentTypeError(f"'{text}': {advice}; expected one of {', '.join(REDUCTIONS)}")
    return text


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(sorted({size(part) for part in text.split(",")}))


def _root(text: str) -> int:
    if text.strip() == "-1":
        raise argparse.ArgumentTypeError("'-1': one root at a time; run it once for each")
    return non_negative_int(text)


def _only_one(text: str) -> int:
    if text.strip() != "1":
        raise argparse.ArgumentTypeError(f"'{text}': only 1 is possible; start one rank a GPU with torchrun instead")
    return 1
