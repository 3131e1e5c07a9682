"""Is this unit, or this cluster, healthy, and if not, what exactly is wrong?

Asks the doctor, measures every case in several fresh processes and under load, and judges the records by the platform's
file. The folder then holds the records, acceptance.json, junit.xml, roofprobe.prom and report.html, all of the same
verdicts; --from judges such a folder, or one of `roofprobe run`, again without measuring.

    roofprobe accept --platform dgx-spark
    roofprobe launch --hosts spark-1,spark-2 -- accept --platform dgx-spark --nodes 2

Exit status: 0 every required check passed; 1 a check failed; 2 unusable input; 3 a required check was not decided.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
import os
from pathlib import Path
import sys

import msgspec

from roofprobe.acceptance.folder import Acceptance, accept, as_json, read_folder, write_outputs
from roofprobe.acceptance.limits import CHECKS
from roofprobe.acceptance.output import as_text
from roofprobe.arguments import duration, parser, positive_int, size
from roofprobe.ceiling import Platform, choose_platform, for_nodes, platforms
from roofprobe.collectives.process_group import Place, find_place
from roofprobe.console import Console
from roofprobe.errors import BadInput, run_command
from roofprobe.files import write_whole
from roofprobe.run_file import Run

NAME = "roofprobe accept"


def main(argv: list[str] | None = None) -> int:
    """Runs ``roofprobe accept``; returns the exit status."""
    known = ", ".join(p.name for p in platforms())
    top = parser(NAME, __doc__, f"platforms: {known}; FILE.toml for one of your own, with base = one of these")
    top.add_argument("--platform", required=True, metavar="NAME|FILE.toml", help="what the machine is")
    top.add_argument("--nodes", type=positive_int, metavar="N", help="units in the cluster (default: the platform's)")
    depth = top.add_mutually_exclusive_group()
    depth.add_argument("--quick", action="store_true", help="a triage, under a minute")
    depth.add_argument("--soak", type=duration, metavar="TIME", help="a load that long, e.g. 35m: sees periodic stalls")
    top.add_argument("--out", type=Path, metavar="DIR", help="folder for the results (default results/TIME-HOST)")
    top.add_argument("--from", dest="earlier", type=Path, metavar="DIR", help="judge an earlier run's folder instead")
    top.add_argument(
        "--memory", type=size, metavar="SIZE", help="most memory to use (default: a quarter of what is available)"
    )
    top.add_argument("--json", action="store_true", help="print acceptance.json on stdout, everything else on stderr")
    arguments = top.parse_args(argv)
    if arguments.earlier is not None and (arguments.quick or arguments.soak is not None or arguments.memory):
        top.error("argument --from: judges what was measured; leave --quick, --soak and --memory out")
    return run_command(lambda: _accept(arguments), NAME)


def _accept(arguments: argparse.Namespace) -> int:
    platform = choose_platform(arguments.platform)
    if arguments.nodes is not None:
        platform = for_nodes(platform, arguments.nodes)
        if platform in platforms():
            _tell_others(platform)
    _require_checks(platform)
    if arguments.earlier is not None:
        return _conclude(platform, arguments.earlier, arguments.out or arguments.earlier, arguments.json)
    place = find_place(os.environ)
    out = _folder(arguments.out, place)
    if (out / "measurements.jsonl").exists():
        raise BadInput(f"{out} already holds a run: choose another folder with --out, or judge it with --from {out}")
    if place is not None and place.rank:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - rank 0 alone prints
    _measure(platform, arguments, out, place)
    return _conclude(_of_rank(platform, place), out, out, arguments.json)


def _require_checks(platform: Platform) -> None:
    """Raises BadInput for a platform that asks for nothing, or for a cluster and nothing of its link."""
    if not platform.checks:
        raise BadInput(
            f"platform {platform.name} has no checks: nothing would be judged; give its file some, or a base"
        )
    if platform.nodes > 1 and not any(CHECKS[name].cluster for name in platform.checks):
        raise BadInput(
            f"platform {platform.name} has {platform.nodes} nodes and no check of a link; expected one, say link-rdma"
        )


def _tell_others(platform: Platform) -> None:
    """Which other clusters have as many nodes: a ring and a switch have pass marks of their own."""
    others = [
        p.name for p in platforms() if p.nodes == platform.nodes > 1 and p.base == platform.base and p != platform
    ]
    if others:
        print(f"{NAME}: judged as {platform.title}; or --platform {' or '.join(others)}", file=sys.stderr)


def _folder(asked: Path | None, place: Place | None) -> Path:
    """A folder of its own for every rank but the first, so that hosts may share a file system."""
    from roofprobe.probes.run import default_folder

    out = asked or default_folder()
    return out / f"rank-{place.rank}" if place is not None and place.rank else out


def _of_rank(platform: Platform, place: Place | None) -> Platform:
    """Rank 0 judges the cluster and its own unit, every other rank its own unit."""
    return platform if place is None or not place.rank else msgspec.structs.replace(platform, nodes=1)


def _measure(platform: Platform, arguments: argparse.Namespace, out: Path, place: Place | None) -> None:
    from roofprobe.environment import read_environment
    from roofprobe.probes.accept_measure import DEFAULT, QUICK, measure

    depth = QUICK if arguments.quick else DEFAULT
    if arguments.soak is not None:
        depth = replace(depth, load_seconds=arguments.soak)
    rank, local_rank = (None, None) if place is None else (place.rank, place.local_rank)
    measure(platform, read_environment(), depth, out, arguments.memory, Console(sys.stderr), rank, local_rank)


def _conclude(platform: Platform, directory: Path, out: Path, as_document: bool) -> int:
    """Judges a folder and writes every output of the verdicts into `out`."""
    folder = read_folder(directory)
    acceptance = accept(platform, folder)
    shown = sys.stderr if as_document else sys.stdout
    # First, since a full disk must not cost the verdict too.
    print(as_text(acceptance), end="", file=shown, flush=True)
    written = [*write_outputs(out, acceptance), _write_report(out, folder.run, acceptance)]
    print(*written, sep="\n", file=shown, flush=True)
    if as_document:
        print(as_json(acceptance), end="", flush=True)
    return acceptance.exit_status


def _write_report(out: Path, run: Run, acceptance: Acceptance) -> Path:
    from roofprobe.report import render

    path = out / "report.html"
    write_whole(path, render(run, acceptance))
    return path


if __name__ == "__main__":
    raise SystemExit(main())
