"""``roofprobe tune --nccl``: which NCCL settings make the all-reduce faster than NCCL's own choice, if any.

    roofprobe tune --nccl --profile profile.json                   every GPU of this host
    roofprobe tune --nccl --hosts spark-1,spark-2 --profile P      one rank a GPU on each host, through ssh

NCCL reads its settings once, so each measurement is an all-reduce probe in processes of its own, a few seconds each.
First every candidate is run once between two runs with the defaults. The few that look best at some size are then run
against the defaults in turn, --rounds times; only these rounds count. What is adopted is said in
`roofprobe.nccl_tuning`; the profile keeps it, and writes it out as `profile export nccl-env` and `nccl-tuner`. Every
run is kept in PROFILE.nccl-runs.jsonl as it ends; after Ctrl-C the same command goes on from there.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
import sys
from typing import TYPE_CHECKING

import msgspec

from roofprobe.arguments import parser, positive_int, size
from roofprobe.collectives.local_ranks import gpu_count
from roofprobe.console import Console
from roofprobe.errors import NOT_MEASURED, OK, BadInput, CannotMeasure, run_command
from roofprobe.nccl_exports import environment_file, tuner_rules, why_no_rules
from roofprobe.nccl_tuning import NcclCandidate, NcclSetting, NcclTuning, bands, best_everywhere
from roofprobe.profile import TuningProfile

if TYPE_CHECKING:
    from roofprobe.probes.nccl_runs import Runner

NAME = "roofprobe tune --nccl"


def main(argv: list[str]) -> int:
    """Runs ``roofprobe tune --nccl``; returns the exit status."""
    top = parser(NAME, __doc__)
    top.add_argument("--nccl", action="store_true", required=True, help="tune NCCL's all-reduce, not the kernels")
    top.add_argument("--profile", type=Path, required=True, metavar="P", help="profile.json to extend or to make")
    top.add_argument("--hosts", metavar="A,B,…", help="measure across these hosts (default: the GPUs of this one)")
    top.add_argument("-b", "--minbytes", type=size, default=1 << 10, metavar="SIZE", help="smallest size (default 1K)")
    top.add_argument("-e", "--maxbytes", type=size, default=64 << 20, metavar="SIZE", help="largest size (default 64M)")
    top.add_argument("-f", "--stepfactor", type=positive_int, default=4, metavar="N", help="times N each (default 4)")
    top.add_argument("-n", "--iters", type=positive_int, default=50, metavar="N", help="operations a size (default 50)")
    top.add_argument("--rounds", type=positive_int, default=8, metavar="N", help="runs a finalist (default 8; least 6)")
    top.add_argument("--json", action="store_true", help="print the outcome on stdout, everything else on stderr")
    arguments = top.parse_args(argv)
    if arguments.rounds < 6:
        top.error("argument --rounds: no 95 % interval of a median exists below 6")
    return run_command(lambda: _tune(arguments), NAME)


def _tune(arguments: argparse.Namespace) -> int:
    from roofprobe.environment import read_environment
    from roofprobe.probes.launch_host import is_here
    from roofprobe.probes.nccl_candidates import candidates
    from roofprobe.probes.nccl_runs import ProbeRunner, active_rdma_devices
    from roofprobe.probes.tune_results import to_extend

    hosts = tuple(arguments.hosts.split(",")) if arguments.hosts else ()
    if not hosts and gpu_count() < 2:
        raise CannotMeasure(
            f"found {gpu_count()} CUDA GPUs on this host; NCCL's all-reduce needs at least two, or --hosts a,b"
        )
    if hosts and not is_here(hosts[0]):
        raise BadInput(
            f"--hosts {arguments.hosts}: this host has to come first, since the records are read where rank 0 is"
        )
    path = arguments.profile / "profile.json" if arguments.profile.is_dir() else arguments.profile
    environment = read_environment()
    profile = to_extend(TuningProfile.load(path) if path.exists() else None, environment, path)
    console = Console(sys.stderr if arguments.json else sys.stdout)
    runner = ProbeRunner(hosts, arguments.minbytes, arguments.maxbytes, arguments.stepfactor, arguments.iters)
    tuning = find_settings(
        runner,
        lambda own: candidates(active_rdma_devices(), own),
        arguments.rounds,
        path,
        nodes=len(hosts) or 1,
        nccl=environment.nccl,
        console=console,
    )
    if tuning is None:
        return NOT_MEASURED
    others = [t for t in profile.nccl if (t.world_size, t.nodes, t.transport) != _group(tuning)]
    msgspec.structs.replace(profile, nccl=(*others, tuning)).save(path)
    for line in verdict(tuning):
        console.line(line)
    console.line(f"profile  {path}")
    if arguments.json:
        print(msgspec.json.format(msgspec.json.encode(tuning)).decode())
    return OK


def _group(tuning: NcclTuning) -> tuple[int, int, str]:
    return tuning.world_size, tuning.nodes, tuning.transport


def find_settings(
    runner: Runner,
    wanted: Callable[[Iterable[NcclSetting]], list[NcclSetting]],
    rounds: int,
    path: Path,
    *,
    nodes: int,
    nccl: str | None,
    console: Console,
) -> NcclTuning | None:
    """Screens, confirms and decides; None where Ctrl-C came first. `wanted`: NCCL's own choices -> candidates."""
    from roofprobe.probes.nccl_run_log import RunLog
    from roofprobe.probes.nccl_search import confirm, finalists, screen

    with RunLog(path.with_name(f"{path.name}.nccl-runs.jsonl"), runner.binding) as log:
        if len(log):
            console.line(f"{len(log)} comparisons of an interrupted run are taken from {log.path}")
        try:
            first = runner.defaults()
            settings = wanted(first.own_choices.values())
            with console.progress(len(settings)):
                screened = screen(runner, settings, log, console.step)
            best = finalists(screened)
            with console.progress(rounds * len(best)):
                confirmed = confirm(runner, best, rounds, log, console.step)
        except KeyboardInterrupt:
            console.line(f"interrupted: {len(log)} comparisons are in {log.path}; the same command goes on")
            return None
        log.finish()
    judged: list[NcclCandidate] = [*confirmed, *(c for c in screened if c.setting not in best)]
    return NcclTuning(
        world_size=first.world_size,
        nodes=nodes,
        transport=first.transport,
        nccl=nccl,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        candidates=tuple(judged),
        everywhere=best_everywhere(confirmed),
        bands=bands(confirmed, first.own_choices),
    )


def verdict(tuning: NcclTuning) -> list[str]:
    """What was found, for people."""
    tried = len(tuning.candidates)
    failed = [c for c in tuning.candidates if c.problem is not None]
    lines = [f"{tried} settings tried over {tuning.transport}, {len(failed)} of them out of the question"]
    lines += [f"  {c.setting}: {c.problem}" for c in failed]
    for candidate in tuning.candidates:
        if any(r.interval for r in candidate.ratios):
            lines.append(f"  {candidate.setting}: of the defaults' time")
            lines += [_ratio_line(r.bytes, r.ratio, r.interval) for r in candidate.ratios]
    lines += environment_file(tuning).splitlines()
    rules = tuner_rules(tuning)
    lines += [f"# no tuner rules: {why_no_rules(tuning)}"] if rules is None else rules.splitlines()
    return lines


def _ratio_line(n_bytes: int, ratio: float, interval: tuple[float, float] | None) -> str:
    spread = "" if interval is None else f" [{interval[0]:.3f}, {interval[1]:.3f}]"
    return f"    {n_bytes:>10} B  {ratio:.3f}{spread}"
