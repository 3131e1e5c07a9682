"""Proof on a CUDA GPU in one command: every kernel's correctness first, then rates, timing, NCCL, telemetry, a tuning.

Each part is a process with a share of the time; what it found reaches the disk line by line, and one that fails, hangs
or crashes costs itself alone. The standard library is enough to run this; what a part needs and this machine lacks is
said and left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.util import find_spec
import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import tempfile
import time
from typing import IO

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from gpu_checks import wheels  # noqa: E402 - the line above makes it importable
from gpu_checks.process import run_part  # noqa: E402
from gpu_checks.results import (  # noqa: E402
    BAD_INPUT,
    FAILED,
    NOT_MEASURED,
    Part,
    as_text,
    document,
    exit_status,
    file_name,
    line_of,
    table,
)

PART = HERE / "gpu_checks" / "part.py"
STAND_INS = HERE / "gpu_checks" / "stand_ins"
"""A folder a library, with as much of it as the measurements can't do without."""
SHARES = {
    "environment": 0.03,
    "correctness": 0.25,
    "far_offsets": 0.09,
    "rates": 0.27,
    "grouped": 0.05,
    "l2_flush": 0.03,
    "launch_cost": 0.04,
    "all_reduce": 0.06,
    "load": 0.06,
    "memory_kinds": 0.05,
    "tune": 0.07,
}
"""Part -> its share of the time, most valuable first; what a part leaves is the next ones'."""
LEAST_SECONDS = 3.0


def main(argv: list[str] | None = None) -> int:
    top = argparse.ArgumentParser(
        prog="scripts/validate_gpu",
        description="Check and measure everything on this machine's CUDA GPU, within a few minutes.",
        epilog="Exit status: 0 all is well; 1 a wrong result or a failure; 2 unusable input; 3 no GPU, or a part that "
        "could not be measured. A result is kept in docs/results/, and scripts/results_page.py makes docs/results.md.",
        allow_abbrev=False,
    )
    top.add_argument("--out", type=Path, metavar="DIR", help="folder for the results (default results/validation-TIME)")
    top.add_argument("--minutes", type=float, default=8.0, metavar="M", help="most time to take (default 8)")
    top.add_argument("--wheels", type=Path, metavar="DIR", help="wheels of libraries that are missing here")
    top.add_argument("--part", action="append", choices=list(SHARES), help="only this part; may be repeated")
    top.add_argument("--only", default="", metavar="TEXT", help="of the kernels' cases, those with TEXT in their name")
    top.add_argument("--dry-run", action="store_true", help="the same on a CPU: interpreter, host backend, gloo")
    arguments = top.parse_args(argv)
    deadline = time.monotonic() + 60 * arguments.minutes
    if not 0.1 <= arguments.minutes <= 600:
        return _refuse(f"--minutes {arguments.minutes:g}: expected 0.1 to 600")
    if arguments.wheels is not None and not arguments.wheels.is_dir():
        return _refuse(f"--wheels {arguments.wheels}: no such folder")
    out = arguments.out or Path("results") / f"validation-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        return _refuse(f"--out {out}: expected a folder that is empty or not there yet; choose another")
    if not arguments.dry_run and (problem := _no_gpu()):
        return _refuse(f"{problem}; nothing was run. Without a GPU: scripts/validate_gpu --dry-run", NOT_MEASURED)
    try:
        out.mkdir(parents=True, exist_ok=True)
        record = open(out / "validation.jsonl", "a", encoding="utf-8")  # noqa: SIM115 - closed below
    except OSError as error:
        return _refuse(f"can't write {out}: {error.strerror}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    parts: list[Part] = []
    try:
        with tempfile.TemporaryDirectory() as unpacked, record:
            environment = _environment(arguments, Path(unpacked))
            _run(arguments, deadline, out.resolve(), environment, record, parts)
    except KeyboardInterrupt:
        print("\ninterrupted: what was found until now is kept", flush=True)
    return _finish(parts, out, arguments.dry_run)


def _refuse(message: str, status: int = BAD_INPUT) -> int:
    print(f"scripts/validate_gpu: {message}", file=sys.stderr)
    return status


def _no_gpu() -> str:
    """Why there is no GPU to run on, or nothing; asked in another process, as a driver may hang or crash."""
    code = "import torch; print(torch.__version__, torch.cuda.is_available())"
    try:
        done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=120)
    except subprocess.TimeoutExpired:
        return "torch did not answer within 120 s whether there is a CUDA device"
    version, _, found = done.stdout.strip().rpartition(" ")
    if done.returncode:
        return f"torch can't be imported: {''.join(done.stderr.strip().splitlines()[-1:])}"
    return "" if found == "True" else f"torch {version} finds no CUDA device"


def _environment(arguments: argparse.Namespace, unpacked: Path) -> dict[str, str]:
    """The parts': a dry run sees no GPU; what --wheels brings is importable, and what stands in for what is missing."""
    if arguments.wheels is not None:
        for line in wheels.install(arguments.wheels, unpacked):
            print(line, flush=True)
    missing = [each for each in sorted(STAND_INS.iterdir()) if not _is_here(each.name, unpacked)]
    folders = [HERE.parent / "src", unpacked, *missing, *filter(None, [os.environ.get("PYTHONPATH")])]
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if arguments.dry_run else {}
    inherited = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}  # parts choose
    return {**inherited, **hidden, "PYTHONPATH": os.pathsep.join(map(str, folders)), "PYTHONUNBUFFERED": "1"}


def _is_here(module: str, unpacked: Path) -> bool:
    return find_spec(module) is not None or (unpacked / module).exists()


def _run(
    arguments: argparse.Namespace,
    deadline: float,
    out: Path,
    environment: dict[str, str],
    record: IO[str],
    parts: list[Part],
) -> None:
    """Runs the parts in order, the environment's always; each is in `parts` from its beginning."""
    wanted = [name for name in SHARES if arguments.part is None or name in (*arguments.part, "environment")]
    flags = ["--out", str(out), "--only", arguments.only, *(["--dry-run"] if arguments.dry_run else [])]
    for i, name in enumerate(wanted):
        part = Part(name)
        parts.append(part)
        # A part may take what those after it can spare, but for half of their own shares.
        later = sum(SHARES[other] for other in wanted[i + 1 :])
        seconds = (deadline - time.monotonic()) * SHARES[name] / (SHARES[name] + later / 2)
        print(f"\n== {name} (at most {seconds:.0f} s)", flush=True)
        if seconds < LEAST_SECONDS:
            part.ended = "no time left"
            continue
        command = [sys.executable, "-P", str(PART), name, "--seconds", f"{seconds:.1f}", *flags]
        start = time.monotonic()
        try:
            part.ended = run_part(command, environment, seconds, out / f"{name}.err", _taker(part, record))
        except KeyboardInterrupt:
            part.ended = "interrupted"
            raise
        finally:
            part.seconds = time.monotonic() - start
            told = "" if part.ended == "whole" else f" ({part.ended})"
            print(f"   {part.verdict}{told}, {part.seconds:.0f} s", flush=True)


def _taker(part: Part, record: IO[str]) -> Callable[[bytes], None]:
    def take(text: bytes) -> None:
        found = part.take(text)
        if found is None:
            return
        record.write(json.dumps({"part": part.name, **found}) + "\n")
        record.flush()
        os.fsync(record.fileno())
        print(line_of(found), flush=True)

    return take


def _finish(parts: list[Part], out: Path, dry: bool) -> int:
    found = document(parts, dry)
    path = out / file_name(found)
    path.write_text(as_text(found), encoding="utf-8")
    print(f"\n{table(parts)}")
    for part in parts:
        for line in part.lines:
            if line["status"] in ("wrong", "failed", "invalid"):
                print(f"{line['status'].upper()}  {part.name}: {line['case']}: {line.get('detail', '')}")
    if dry:
        print("a dry run on a CPU: it shows that the command works, and nothing about a GPU")
    print(f"result  {path}")
    return exit_status(parts) if len(parts) else NOT_MEASURED


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(_refuse("interrupted before anything ran", NOT_MEASURED))
    except OSError as error:  # a full disk
        sys.exit(_refuse(f"can't write the results: {error}", FAILED))
