"""What ``roofprobe memory``, ``gemv`` and ``dequant`` have in common: flags, the loop over sides, rows and JSON."""

from __future__ import annotations

import argparse
from collections.abc import Callable
import sys
from typing import TYPE_CHECKING

import msgspec

from roofprobe.arguments import duration, size
from roofprobe.console import HEADER, Console, row, skipped_line
from roofprobe.errors import run_command
from roofprobe.measurement import Measurement, exit_status, figures

if TYPE_CHECKING:
    from roofprobe.probes.memory import StreamBuffers
    from roofprobe.probes.sides import MeasuredSide

    ProbeSide = Callable[[MeasuredSide, StreamBuffers, Callable[[str], None], Callable[[Measurement], None]], None]


def add_flags(parser: argparse.ArgumentParser, seconds: float) -> None:
    """The flags that every single probe takes."""
    parser.add_argument("--side", choices=["all", "device", "host"], default="all", help="GPU, CPU or both (default)")
    parser.add_argument(
        "--seconds", type=duration, default=seconds, help=f"most time for one row (default {seconds:g}); e.g. 10s, 1m"
    )
    parser.add_argument(
        "--memory", type=size, metavar="SIZE", help="most memory to use (default: a quarter of what is available)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document on stdout, rows on stderr")


def run_probe(name: str, arguments: argparse.Namespace, steps: int, arrays: int, probe_side: ProbeSide) -> int:
    """Runs `probe_side` on every wanted side; returns the exit status. Ctrl-C keeps the rows so far."""

    def command() -> int:
        from roofprobe.environment import read_environment
        from roofprobe.probes.memory import allocate
        from roofprobe.probes.sides import find_sides

        environment = read_environment()
        console = Console(sys.stderr if arguments.json else sys.stdout)
        sides, skipped = find_sides(environment, arguments.side, arguments.memory)
        results: list[Measurement] = []

        def on_result(m: Measurement) -> None:
            results.append(m)
            console.line(row(m))

        for line in map(skipped_line, skipped):
            console.line(line)
        try:
            with console.progress(steps * len(sides)):
                for side in sides:
                    console.line(side.ceiling_line())
                    console.line(HEADER)
                    probe_side(side, allocate(side, arrays), console.step, on_result)
        finally:
            if arguments.json:
                document = {"environment": environment, "measurements": [figures(m) for m in results]}
                print(msgspec.json.format(msgspec.json.encode(document)).decode())
        return exit_status(results)

    return run_command(command, f"roofprobe {name}")
