"""One process of an acceptance: measures the named cases once and writes them as a run's file.

Each process has its own memory layout and warm-up, so that what several of them agree on is the machine's. Records
reach the file as they are made: what ends the process early costs the row that was under way.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
import sys
from typing import TYPE_CHECKING

from roofprobe.arguments import duration, parser, size
from roofprobe.errors import OK, run_command
from roofprobe.measurement import Measurement, Side, Skipped
from roofprobe.probes.weights import FORMATS, QUANTIZED, QUICK_SHAPES, Shape, random_sources
from roofprobe.run_file import RunWriter

if TYPE_CHECKING:
    from roofprobe.probes.sides import MeasuredSide

KINDS = "memory-kinds"
PATTERNS = ("read", "copy")
LARGE = QUICK_SHAPES[0]
"""470 MB in bf16; making it in every format takes a CPU half a minute."""
SMALL = Shape(8192, 8192)
"""134 MB in bf16, in as many copies as outgrow the caches: for a quick look."""
ROWS = (*PATTERNS, *(f"gemv-{name}" for name in FORMATS), *(f"dequant-{name}" for name in QUANTIZED))
NAMES = (*(f"{side}:{row}" for side in ("device", "host") for row in ROWS), KINDS)


def main(argv: list[str] | None = None) -> int:
    """Writes ``FILE`` for ``NAME …``."""
    top = parser("python -m roofprobe.probes.accept_rows", "Measure cases once, into a file.")
    top.add_argument("file", type=Path)
    top.add_argument("names", nargs="+", choices=NAMES)
    top.add_argument("--seconds", type=duration, default=2.0)
    top.add_argument("--memory", type=size)
    top.add_argument("--small", action="store_true")
    arguments = top.parse_args(argv)
    return run_command(lambda: _measure(arguments), "roofprobe accept")


def _measure(arguments: argparse.Namespace) -> int:
    from roofprobe.environment import read_environment
    from roofprobe.probes.sides import find_sides

    environment = read_environment()
    writer = RunWriter(arguments.file)
    writer.write(environment)
    sides, missing = find_sides(environment, "all", arguments.memory)
    if KINDS in arguments.names:
        from roofprobe.probes.memory_kinds import probe_kinds

        reasons: dict[Side, str] = {"device" if "device" in s.case else "host": s.reason for s in missing}
        probe_kinds(environment, sides, reasons, arguments.seconds, _say, writer.write)
    for each in missing:
        if any(name.startswith(f"{each.case.partition(' ')[0]}:") for name in arguments.names):
            writer.write(each)
    for side in sides:
        rows = [name.partition(":")[2] for name in arguments.names if name.startswith(f"{side.side}:")]
        _measure_side(side, rows, SMALL if arguments.small else LARGE, arguments.seconds, writer.write)
    writer.close()
    return OK


def _measure_side(
    side: MeasuredSide,
    rows: Sequence[str],
    shape: Shape,
    seconds: float,
    on_result: Callable[[Measurement | Skipped], None],
) -> None:
    """Its memory is free again afterwards: both sides of a machine may share one."""
    from roofprobe.probes.dequant import probe_dequant
    from roofprobe.probes.gemv import probe_gemv
    from roofprobe.probes.memory import allocate, measure_pattern

    if not rows:
        return
    buffers = allocate(side, arrays=2)
    for name in (name for name in PATTERNS if name in rows):
        _say(f"{side.side} {name}")
        on_result(measure_pattern(side, side.memory, buffers, name, seconds))
    for op, probe in (("gemv", probe_gemv), ("dequant", probe_dequant)):
        formats = [name.removeprefix(f"{op}-") for name in rows if name.startswith(f"{op}-")]
        sources = random_sources([shape], formats)
        if sources:
            probe(side, buffers, sources, seconds, _say, on_result)


def _say(step: str) -> None:
    print(step, file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
