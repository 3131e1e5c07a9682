"""Records what docs/regression-rule.md is made from: many runs of one short case, some of them slowed on purpose.

    .venv/bin/python -P scripts/aa_pairs.py record FOLDER [--rounds N] [--only-same]
    .venv/bin/python -P scripts/aa_pairs.py keep FOLDER --machine WORDS   # makes tests/recordings/aa_pairs.json
    .venv/bin/python -P scripts/aa_pairs.py page > docs/regression-rule.md

A round is four fresh processes in random order: the case twice as it is, once with a tenth more work and once with a
fortieth. The case is the host's copy on one CPU, paired with read, through the same code as every probe's row. A slowed
process copies (1 + share) times the elements in one launch and claims the bytes of 1: what a kernel does that has
become slower by that share. A contended process is kept and run again, up to three times.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
import os
from pathlib import Path
import random
import subprocess
import sys
from typing import Any

import msgspec

from roofprobe.comparison.comparable import readings
from roofprobe.run_file import Run, RunWriter, read_run

sys.path.insert(0, str(Path(__file__).resolve().parent))
from aa_page import RECORDING, RecordedProcess, Recording, judge_all, page, read_recording

SHARES = {"same": 0.0, "again": 0.0, "tenth": 0.10, "fortieth": 0.025}
MEMORY_BYTES = 450 << 20
N = 33 << 20
"""Elements: 132 MiB an array, above four times this machine's last-level cache of 32 MiB."""
SECONDS = 1.0
ATTEMPTS = 3


def main() -> int:
    """Runs one of the actions; returns the exit status."""
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = top.add_subparsers(dest="action", required=True)
    record = actions.add_parser("record", help="measure; an interrupted recording goes on where it was")
    record.add_argument("folder", type=Path)
    record.add_argument("--rounds", type=int, default=100)
    record.add_argument("--only-same", action="store_true", help="leave the slowed processes out of rounds to come")
    keep = actions.add_parser("keep", help="summarise a recording for the repository")
    keep.add_argument("folder", type=Path)
    keep.add_argument("--machine", required=True, help="what it was recorded on, for the page")
    actions.add_parser("page", help="print the page")
    one = actions.add_parser("one", help="one process of a recording")
    one.add_argument("file", type=Path)
    one.add_argument("share", type=float)
    arguments = top.parse_args()
    if arguments.action == "record":
        _record(arguments.folder, arguments.rounds, arguments.only_same)
    elif arguments.action == "keep":
        _keep(arguments.folder, arguments.machine)
    elif arguments.action == "page":
        recording = read_recording()
        print(page(recording, judge_all(recording)), end="")
    else:
        _measure_one(arguments.file, arguments.share)
    return 0


def _record(folder: Path, rounds: int, only_same: bool) -> None:
    whole = {int(file.stem.split("-")[0]) for file in folder.glob("*th-?.jsonl")}
    for number in range(rounds):
        order = [name for name, share in SHARES.items() if not share or not only_same or number in whole]
        random.Random(number).shuffle(order)
        for place, name in enumerate(order):
            _record_process(folder, f"{number:03}-{place}-{name}", SHARES[name])


def _record_process(folder: Path, stem: str, share: float) -> None:
    for attempt in range(ATTEMPTS):
        file = folder / f"{stem}-{attempt}.jsonl"
        if not file.exists():
            command = [sys.executable, "-P", __file__, "one", str(file), str(share)]
            subprocess.run(command, check=True)
            file.with_suffix(".load").write_text(f"{os.getloadavg()[0]:.1f}\n")
        (found,) = read_run(file).measurements
        print(f"{file.stem}: {found.ceiling_fraction:.4f}", flush=True)
        if not found.timing.contended:
            return


def _measure_one(file: Path, share: float) -> None:
    os.sched_setaffinity(0, [max(os.sched_getaffinity(0))])
    from roofprobe.environment import read_environment
    from roofprobe.kernels import stream
    from roofprobe.probes.memory import StreamBuffers, allocate, measure_pattern
    from roofprobe.probes.sides import find_sides

    environment = read_environment()
    (side,), _ = find_sides(environment, "host", MEMORY_BYTES)
    whole = allocate(side, arrays=2)
    slower = round(N * (1 + share))
    plain: Callable[..., Any] = stream.copy

    def copy(_: Any, **how: Any) -> Any:
        return plain(whole.b[:slower], **{**how, "out": whole.a[:slower]})

    stream.copy = copy
    buffers = StreamBuffers(whole.a[:N], whole.b[:N], None)
    writer = RunWriter(file)
    writer.write(environment)
    writer.write(measure_pattern(side, side.memory, buffers, "copy", SECONDS))
    writer.close()


def _keep(folder: Path, machine: str) -> None:
    files = sorted(folder.glob("*.jsonl"))
    runs = [read_run(file) for file in files]
    recording = Recording(
        machine=machine,
        case=f"the host's copy of {N * 4 >> 20} MiB, on one CPU, paired with read",
        seconds=SECONDS,
        began=min(run.environment.created for run in runs)[:16],
        ended=max(run.environment.created for run in runs)[:16],
        processes=tuple(_kept(file, run) for file, run in zip(files, runs)),
    )
    lines = msgspec.json.encode(recording).replace(b'"processes":[', b'"processes":[\n').replace(b"]},", b"]},\n")
    RECORDING.write_bytes(lines + b"\n")


def _kept(file: Path, run: Run) -> RecordedProcess:
    number, _, name, _ = file.stem.split("-")
    (row,) = readings(run)
    (measured,) = run.measurements
    return RecordedProcess(
        round=int(number),
        name=name,
        gb_per_s=round(measured.gb_per_s, 3),
        load=float(file.with_suffix(".load").read_text()),
        samples=tuple(round(sample, 5) for sample in row.samples),
    )


if __name__ == "__main__":
    raise SystemExit(main())
