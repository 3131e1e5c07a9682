"""Runs one part in a process of its own, so that none can take the others with it: `part.py NAME [flags]`."""

from __future__ import annotations

import argparse
from importlib import import_module
import os
from pathlib import Path
import signal
import sys
from typing import Any

CASE_WORKERS = {"correctness": 16, "far_offsets": 1}
"""Parts whose cases run in workers, and at most how many: past 2^31 elements, one at a time fills the memory."""
WORKER_BYTES = 3 << 30
"""Of the host's memory, for a process with torch, its CUDA libraries and a compiler."""
KERNEL_PARTS = ("environment", "l2_flush", "launch_cost")
COMMAND_PARTS = ("rates", "grouped", "all_reduce", "load", "memory_kinds", "tune")


def main() -> int:
    top = argparse.ArgumentParser()
    top.add_argument("part", choices=[*CASE_WORKERS, *KERNEL_PARTS, *COMMAND_PARTS])
    top.add_argument("--seconds", type=float, required=True)
    top.add_argument("--out", type=Path, required=True)
    top.add_argument("--only", default="", metavar="TEXT", help="only cases with this in their name")
    top.add_argument("--dry-run", action="store_true")
    top.add_argument("--worker", action="store_true", help="answer the case names on stdin")
    arguments = top.parse_args()
    scripts = Path(__file__).resolve().parent.parent
    sys.path[:0] = [str(scripts), str(scripts.parent / "src")]
    if arguments.worker:
        _work(_machine(arguments), arguments.part)
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if arguments.part in CASE_WORKERS:
        return _supervise(arguments)
    if arguments.part in KERNEL_PARTS:
        where = _machine(arguments)
        import_module(f"gpu_checks.{arguments.part}").run(where)
    else:  # the commands choose for themselves, and have the GPU to themselves
        commands = import_module("gpu_checks.commands")
        commands.run(arguments.part, arguments.dry_run, arguments.seconds, arguments.out)
    return 0


def _machine(arguments: argparse.Namespace) -> Any:
    if arguments.dry_run:
        os.environ["TRITON_INTERPRET"] = "1"
    from gpu_checks.machine import machine

    return machine(arguments.dry_run)


def _supervise(arguments: argparse.Namespace) -> int:
    from gpu_checks.pool import Pool

    pool = Pool([sys.executable, "-P", *sys.argv, "--worker"], arguments.seconds - 1, arguments.only)
    pool.run(max(1, min(CASE_WORKERS[arguments.part], len(os.sched_getaffinity(0)), _available() // WORKER_BYTES)))
    if pool.started and not pool.left:
        return 0
    why = pool.problems[0] if pool.problems else f"no time for {len(pool.left)} cases, {pool.left[0]!r} the first"
    print(f"not run: {why}", file=sys.stderr)
    return 3


def _available() -> int:
    with open("/proc/meminfo") as lines:
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))


def _work(where: Any, part: str) -> None:
    import json

    import torch

    cases = import_module(f"gpu_checks.{part}").cases(where)
    from gpu_checks.correctness import report

    if where.dry:
        torch.set_num_threads(1)
    print(json.dumps({"cases": list(cases)}), flush=True)
    for line in sys.stdin:
        name = line.rstrip("\n")
        report(name, cases[name]())
        where.synchronize()  # raises after an illegal address, and this process ends: nothing in it works any more
        print('{"ready": true}', flush=True)


if __name__ == "__main__":
    sys.exit(main())
