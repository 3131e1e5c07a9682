"""How much this machine differs from itself: the same cases in fresh processes, again and again.

Each process measures every case once, as `roofprobe run` does but for less time. Its spread by kind of case, and how
often `roofprobe compare` would raise a false alarm over a pair of processes, go into the machine's history, where
`compare` finds them. Processes whose rows were disturbed by other work are made up for, by half as many more at most.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
import json
from pathlib import Path
import subprocess
import sys
import tempfile
from typing import Any

import msgspec

from roofprobe.arguments import duration, parser, positive_int, size
from roofprobe.comparison.calibration import FEWEST_PAIRS, binomial_interval, calibrate
from roofprobe.comparison.comparable import CaseKey, readings
from roofprobe.comparison.history import KindSpread, PastCalibration, append_line, history_file
from roofprobe.comparison.regression_rule import as_fraction, limit
from roofprobe.console import Console
from roofprobe.errors import NOT_MEASURED, OK, CannotMeasure, run_command
from roofprobe.files import write_whole
from roofprobe.probes.calibrated_rows import NAMES
from roofprobe.run_file import Run, read_run

EPILOG = f"""cases: {", ".join(NAMES)}

Without --case all of them: about half a minute a pair on a CPU. Leave the machine as it is when runs are compared: a
quiet calibration promises what a busy machine does not keep.

Exit status: 0 every case is calibrated; 1 a process failed; 2 unusable input; 3 a case had fewer than
{FEWEST_PAIRS} pairs whose samples were undisturbed and checked.
"""
Processes = dict[CaseKey, list[tuple[float, ...]]]
"""Case -> the samples of each usable process, in order."""


def main(argv: list[str] | None = None) -> int:
    """Runs ``roofprobe calibrate``; returns the exit status."""
    top = parser("roofprobe calibrate", "Measure this machine's own A/A spread, which comparisons are held to.", EPILOG)
    top.add_argument("--pairs", type=positive_int, default=20, metavar="N", help="of processes (default 20)")
    top.add_argument("--case", choices=NAMES, action="append", metavar="CASE", help="may be repeated (default: all)")
    top.add_argument("--side", choices=["all", "device", "host"], default="all", help="GPU, CPU or both (default)")
    top.add_argument("--seconds", type=duration, default=1.0, help="most time for one row (default 1)")
    top.add_argument("--memory", type=size, metavar="SIZE", help="most memory to use, as for `roofprobe run`")
    top.add_argument("--out", type=Path, metavar="FILE", help="write what --json prints to a file as well")
    top.add_argument("--json", action="store_true", help="print one JSON document on stdout, rows on stderr")
    arguments = top.parse_args(argv)
    if arguments.pairs < FEWEST_PAIRS:
        top.error(f"argument --pairs: {arguments.pairs} is below {FEWEST_PAIRS}, from which a spread can be told")
    return run_command(lambda: _calibrate(arguments), "roofprobe calibrate")


def _calibrate(arguments: argparse.Namespace) -> int:
    console = Console(sys.stderr if arguments.json else sys.stdout)
    processes: Processes = {}
    environment = None
    for run in _runs(arguments, processes, console):
        environment = run.environment
        _add(run, processes)
    assert environment is not None, "at least one process ran"
    found = {key: calibrate(key.kind, of_case) for key, of_case in processes.items()}
    console.line(f"{'case':<40}{'pairs':>6}{'spread':>9}{'apart':>9}{'limit':>8}  false alarms")
    for key, spread in found.items():
        console.line(_row(key, spread, len(processes[key]) // 2))
    line = PastCalibration(environment=environment, kinds=tuple(s for s in found.values() if s is not None))
    file = history_file(environment)
    if file is not None and line.kinds:
        append_line(file, line)
        console.line(f"history  {file}")
    document = json.dumps(_document(line, file), indent=2, ensure_ascii=False)
    if arguments.out is not None:
        write_whole(arguments.out, document + "\n")
    if arguments.json:
        print(document)
    return NOT_MEASURED if None in found.values() else OK


def _runs(arguments: argparse.Namespace, processes: Processes, console: Console) -> Iterator[Run]:
    """A run a process, until every case has enough usable ones or half as many more have run."""
    wanted = 2 * arguments.pairs
    with tempfile.TemporaryDirectory(prefix="roofprobe-") as folder, console.progress(wanted):
        for number in range(wanted + arguments.pairs):
            if number >= wanted and all(len(of_case) >= wanted for of_case in processes.values()):
                return
            console.step(f"process {number + 1}")
            yield _run_process(arguments, Path(folder) / f"{number}.jsonl")


def _run_process(arguments: argparse.Namespace, file: Path) -> Run:
    command = [sys.executable, "-P", "-m", "roofprobe.probes.calibrated_rows", str(file)]
    command += arguments.case or NAMES
    command += ["--side", arguments.side, "--seconds", str(arguments.seconds)]
    command += [] if arguments.memory is None else ["--memory", str(arguments.memory)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        error = CannotMeasure(f"a process ended with status {done.returncode}: {said}")
        error.exit_status = done.returncode if done.returncode in (1, 2, 3) else 1
        raise error
    return read_run(file)


def _add(run: Run, processes: Processes) -> None:
    for reading in readings(run):
        of_case = processes.setdefault(reading.key, [])
        if reading.unusable is None:
            of_case.append(reading.samples)


def _row(key: CaseKey, found: KindSpread | None, pairs: int) -> str:
    if found is None:
        return f"{key.name:<40}{pairs:>6}  too few undisturbed pairs: expected at least {FEWEST_PAIRS}"
    low, high = binomial_interval(found.false_alarms, found.pairs)
    return (
        f"{key.name:<40}{found.pairs:>6}{as_fraction(found.neighbours_spread):>9.2%}{as_fraction(found.apart_spread):>9.2%}"
        f"{as_fraction(limit(found.spread)):>8.1%}  {found.false_alarms} [{low:.1%}, {high:.1%}]"
    )


def _document(line: PastCalibration, file: Path | None) -> dict[str, Any]:
    kinds: Sequence[dict[str, Any]] = msgspec.to_builtins(line.kinds)
    for kind, found in zip(kinds, line.kinds, strict=True):
        kind["limit"] = as_fraction(limit(found.spread))
        kind["false_alarm_interval"] = binomial_interval(found.false_alarms, found.pairs)
    return {
        "schema": "roofprobe/calibration/1",
        "environment": msgspec.to_builtins(line.environment),
        "history": None if file is None else str(file),
        "kinds": kinds,
    }


if __name__ == "__main__":
    raise SystemExit(main())
