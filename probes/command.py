"""What ``roofprobe memory``, ``gemv`` and ``dequant`` have in common: flags, the loop over sides, rows and JSON."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
import sys
from typing import TYPE_CHECKING

import msgspec

from roofprobe.arguments import duration, size
from roofprobe.console import HEADER, Console, row, skipped_line
from roofprobe.errors import run_command
from roofprobe.measurement import Measurement, Skipped, exit_status, figures
from roofprobe.probes.comparison import as_json, comparisons, line

if TYPE_CHECKING:
    from roofprobe.probes.memory import StreamBuffers
    from roofprobe.probes.sides import MeasuredSide

    OnResult = Callable[[Measurement | Skipped], None]
    ProbeSide = Callable[[MeasuredSide, StreamBuffers, Callable[[str], None], OnResult], None]


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


def shown_rows(console: Console) -> tuple[list[Measurement], list[Skipped], OnResult]:
    """(rows, skipped cases, what to call with each): every result is shown as it comes, and kept."""
    results: list[Measurement] = []
    left_out: list[Skipped] = []

    def on_result(found: Measurement | Skipped) -> None:
        if isinstance(found, Skipped):
            left_out.append(found)
            console.line(skipped_line(found))
        else:
            results.append(found)
            console.line(row(found))

    return results, left_out, on_result


def run_probe(name: str, arguments: argparse.Namespace, steps: int, arrays: int, probe_side: ProbeSide) -> int:
    """`measure_sides` as a whole command, whose failures are one line on stderr."""
    return run_command(lambda: measure_sides(arguments, steps, arrays, probe_side), f"roofprobe {name}")


def measure_sides(
    arguments: argparse.Namespace, steps: int, arrays: int, probe_side: ProbeSide, skipped: Sequence[Skipped] = ()
) -> int:
    """Runs `probe_side` on every wanted side; returns the exit status. Ctrl-C keeps the rows so far.

    `skipped`: cases that were left out beforehand.
    """
    from roofprobe.environment import read_environment
    from roofprobe.probes.memory import allocate
    from roofprobe.probes.sides import find_sides

    environment = read_environment()
    console = Console(sys.stderr if arguments.json else sys.stdout)
    sides, without = find_sides(environment, arguments.side, arguments.memory)
    results, left_out, on_result = shown_rows(console)
    for each in (*without, *skipped):
        on_result(each)
    try:
        with console.progress(steps * len(sides)):
            for side in sides:
                console.line(side.ceiling_line())
                console.line(HEADER)
                probe_side(side, allocate(side, arrays), console.step, on_result)
    finally:
        compared = comparisons(results)
        for comparison in compared:
            console.line(line(comparison))
        if arguments.json:
            rows = [figures(m) | {"compared_with": as_json(m, compared)} for m in results]
            document = {"environment": environment, "measurements": rows, "skipped": left_out}
            print(msgspec.json.format(msgspec.json.encode(document)).decode())
    return exit_status(results)
