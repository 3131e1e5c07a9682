"""One process of a calibration: measures the named cases once and writes them as a run's file."""

from __future__ import annotations

import argparse
from pathlib import Path
import sys
from typing import TYPE_CHECKING

from roofprobe.arguments import duration, parser, size
from roofprobe.errors import OK, run_command
from roofprobe.measurement import Measurement
from roofprobe.probes import dequant, gemv
from roofprobe.probes.case import copy_ceiling, measure_case, read_ceiling
from roofprobe.probes.memory import OPS, StreamBuffers, allocate, measure_pattern
from roofprobe.probes.weights import FORMATS, QUANTIZED, Shape, random_source
from roofprobe.run_file import RunWriter

if TYPE_CHECKING:
    from roofprobe.probes.sides import MeasuredSide

NAMES = (*OPS, *(f"gemv-{name}" for name in FORMATS), *(f"dequant-{name}" for name in QUANTIZED))
SHAPE = Shape(8192, 8192)
"""Of a projection that is read past every cache and made in half a second; the shape is no part of a kind."""


def main(argv: list[str] | None = None) -> int:
    """Writes ``FILE`` for ``NAME …``; a process of its own, so that each sample of the spread is a fresh one."""
    top = parser("python -m roofprobe.probes.calibrated_rows", "Measure cases once, into a file.")
    top.add_argument("file", type=Path)
    top.add_argument("names", nargs="+", choices=NAMES)
    top.add_argument("--side", choices=["all", "device", "host"], default="all")
    top.add_argument("--seconds", type=duration, default=1.0)
    top.add_argument("--memory", type=size)
    arguments = top.parse_args(argv)
    return run_command(lambda: _measure(arguments), "roofprobe calibrate")


def _measure(arguments: argparse.Namespace) -> int:
    from roofprobe.environment import read_environment
    from roofprobe.probes.sides import find_sides

    environment = read_environment()
    sides, _ = find_sides(environment, arguments.side, arguments.memory)
    writer = RunWriter(arguments.file)
    writer.write(environment)
    for side in sides:
        buffers = allocate(side, arrays=3 if "triad" in arguments.names else 2)
        for name in arguments.names:
            writer.write(measure_named(name, side, buffers, arguments.seconds))
    writer.close()
    return OK


def measure_named(name: str, side: MeasuredSide, buffers: StreamBuffers, seconds: float) -> Measurement:
    """One of NAMES, as its own probe measures it."""
    if name in OPS:
        return measure_pattern(side, side.memory, buffers, name, seconds)
    probe, _, weight_format = name.partition("-")
    source = random_source(SHAPE, weight_format)
    if probe == "gemv":
        case, ceiling = gemv.gemv_case(side, gemv.make_operands(side, source)), read_ceiling
    else:
        case, ceiling = dequant.dequant_case(side, dequant.make_operands(side, source)), copy_ceiling
    return measure_case(case, side, ceiling(side, buffers), seconds)


if __name__ == "__main__":
    sys.exit(main())
