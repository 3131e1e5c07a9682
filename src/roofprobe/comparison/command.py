"""``roofprobe compare BASE NEW``: what became slower, by a stated statistical rule."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
import sys

from roofprobe.arguments import parser
from roofprobe.comparison.comparable import readings
from roofprobe.comparison.comparing import Process, compare
from roofprobe.comparison.history import history_file, past_processes, read_history, spreads
from roofprobe.comparison.output import as_json, as_text
from roofprobe.errors import BadInput, CannotMeasure, run_command
from roofprobe.run_file import read_run

EPILOG = """BASE and NEW are a run's folder, its measurements.jsonl, or a folder of runs: several processes a side tell
a change from the chance of one. Rows with a ceiling of their own run count by their share of it, ceilings and
collectives by their rate. A regression takes an interval that is clear of 5 % and of 3 times this machine's own A/A
spread, which `roofprobe calibrate` measures.

Exit status: 0 nothing is slower; 1 a regression, or a result that has become wrong; 2 unusable input; 3 a case that
BASE measured has no usable row in BASE or NEW, or no case could be told.
"""


def main(argv: list[str] | None = None) -> int:
    """Runs ``roofprobe compare`` with `argv`; returns the exit status."""
    top = parser("roofprobe compare", "Compare two runs, case by case: what became slower?", EPILOG)
    top.add_argument("base", type=Path, nargs="?", metavar="BASE", help="the run or runs before")
    top.add_argument("new", type=Path, metavar="NEW", help="the run or runs after")
    top.add_argument(
        "--against-history", action="store_true", help="in place of BASE, this machine's earlier `roofprobe run`s"
    )
    top.add_argument("--json", action="store_true", help="print one JSON document")
    arguments = top.parse_args(argv)
    if arguments.against_history == (arguments.base is not None):
        top.error("expected BASE and NEW, or --against-history and NEW")
    return run_command(lambda: _compare(arguments), "roofprobe compare")


def _compare(arguments: argparse.Namespace) -> int:
    new = read_processes(arguments.new)
    if arguments.base is not None:
        base = read_processes(arguments.base)
        file = history_file(base[0].environment)
        lines = read_history(file)
    else:
        file = history_file(new[0].environment)
        lines = read_history(file)
        base = past_processes(lines, before=min(process.environment.created for process in new))
        if not base:
            where = (
                "no history is kept (ROOFPROBE_HISTORY is empty)" if file is None else f"{file} holds no earlier run"
            )
            raise CannotMeasure(f"{where}; `roofprobe run` appends to it, and `roofprobe compare BASE NEW` needs none")
    found = compare(base, new, spreads(lines))
    sources = [[process.source for process in side] for side in (base, new)]
    if arguments.json:
        print(json.dumps(as_json(found, *sources), indent=2, ensure_ascii=False))
    else:
        print(as_text(found))
    return found.exit_status


def read_processes(path: Path) -> list[Process]:
    """One process a measurements file at `path`: the file itself, a run's folder, or a folder of either.

    Raises BadInput where there is none, or one that is no measurements file.
    """
    found = []
    for file in _files(path):
        run = read_run(file)
        if run.ended is None:
            print(f"{file}: the run did not end by itself; what it measured is compared", file=sys.stderr)
        found.append(Process(str(file), run.environment, tuple(readings(run))))
    return found


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    own = path / "measurements.jsonl"
    files = [own] if own.exists() else sorted([*path.glob("*/measurements.jsonl"), *path.glob("*.jsonl")])
    if not files:
        raise BadInput(f"{path} holds no run: expected measurements.jsonl, or folders that hold one")
    return files
