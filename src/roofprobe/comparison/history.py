"""What this machine has measured before: a file of JSON lines, one a run and one a calibration, appended to for ever.

It lies at ``$XDG_STATE_HOME/roofprobe/MACHINE/history.jsonl`` (``~/.local/state`` by default). MACHINE is made of the
names of product, CPU and GPUs, without serial numbers: units of one type that share a home folder share a history,
unless ROOFPROBE_HISTORY names a file for each. Set to nothing, ROOFPROBE_HISTORY keeps no history.
"""

from __future__ import annotations

import fcntl
from math import exp, log
import os
from pathlib import Path
import re

import msgspec

from roofprobe.comparison.comparable import CaseKey, Reading, readings
from roofprobe.comparison.comparing import Process
from roofprobe.errors import BadInput, RoofprobeError
from roofprobe.json_lines import append, whole_lines
from roofprobe.measurement import Environment, Record
from roofprobe.robust import median
from roofprobe.run_file import Run


class PastCase(msgspec.Struct, frozen=True, kw_only=True):
    """One row of an earlier run, in one figure."""

    key: CaseKey
    rate: float
    """Median share of its reference, or GB/s where it has none."""


class PastRun(Record, frozen=True, kw_only=True, tag="run"):
    """The usable rows of a run."""

    environment: Environment
    folder: str
    cases: tuple[PastCase, ...]


class KindSpread(msgspec.Struct, frozen=True, kw_only=True):
    """How much repeats of one kind of case differ on this machine, and what the rule says of them."""

    kind: str
    spread: float
    """Standard deviation of the logarithm of the ratio of two processes: the larger of the next two."""
    neighbours_spread: float
    """Of processes one after the other."""
    apart_spread: float
    """Of processes half a calibration apart."""
    pairs: int
    false_alarms: int
    """Pairs one after the other that the rule calls a regression or an improvement."""


class PastCalibration(Record, frozen=True, kw_only=True, tag="calibration"):
    """A machine's own A/A spread, by kind of case."""

    environment: Environment
    kinds: tuple[KindSpread, ...]


Line = PastRun | PastCalibration
_decoder = msgspec.json.Decoder(Line)


def history_file(environment: Environment) -> Path | None:
    """Where the history of `environment`'s machine is; None where none is to be kept."""
    chosen = os.environ.get("ROOFPROBE_HISTORY")
    if chosen is not None:
        return Path(chosen) if chosen else None
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser() / "roofprobe" / machine_key(environment) / "history.jsonl"


def machine_key(environment: Environment) -> str:
    """``nvidia-dgx-spark-10x-cortex-a725-10x-cortex-x925-20-cpus-nvidia-gb10``."""
    gpus = [device.name for device in environment.devices]
    parts = (environment.product, environment.cpu_model, f"{environment.cpus} CPUs", *gpus)
    return re.sub(r"[^a-z0-9]+", "-", " ".join(filter(None, parts)).lower()).strip("-")[:120]


def read_history(path: Path | None) -> tuple[Line, ...]:
    """Every line, the oldest first; none where there is no file. A torn last line is passed over.

    Raises BadInput naming file and line for one that is no record, and where the file can't be read.
    """
    if path is None or not path.exists():
        return ()
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except OSError as error:
        raise BadInput(f"can't read {path}: {error.strerror}") from None
    return tuple(_decode(line, number, path) for number, line in enumerate(lines, start=1))


def _decode(line: bytes, number: int, path: Path) -> Line:
    try:
        found: Line = _decoder.decode(line)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise BadInput(f"{path}: line {number}: {error}; delete the line, or the file to start anew") from None
    return found


def append_line(path: Path, line: Line) -> None:
    """Appends one line, after cutting off one that a crash has left torn. Several processes may do so at once.

    Raises BadInput for a file that holds something else, RoofprobeError where it can't be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            for _ in whole_lines(file, path, _decoder):
                pass
            append(file, path, line)
    except OSError as error:
        raise RoofprobeError(f"can't append to {path}: {error.strerror}") from None


def remember(run: Run, folder: Path) -> str | None:
    """Appends a run's summary, and says in a line where; None where there is nothing to keep or none is to be kept.

    A history that can't be written is said and is no error: the run is worth more than its line there.
    """
    file, line = history_file(run.environment), summary(run, folder)
    if file is None or not line.cases:
        return None
    try:
        append_line(file, line)
    except RoofprobeError as error:
        return f"history  not kept: {error}"
    return f"history  {file}"


def summary(run: Run, folder: Path) -> PastRun:
    """A run's usable rows."""
    cases = tuple(
        PastCase(key=each.key, rate=exp(median(each.samples))) for each in readings(run) if each.unusable is None
    )
    return PastRun(environment=run.environment, folder=str(folder), cases=cases)


def spreads(lines: tuple[Line, ...]) -> dict[str, float]:
    """Kind -> its spread, by the latest calibration that measured it."""
    return {kind.kind: kind.spread for line in lines if isinstance(line, PastCalibration) for kind in line.kinds}


def past_processes(lines: tuple[Line, ...], before: str) -> list[Process]:
    """The runs that were made before `before` (ISO 8601, UTC), each as one process with one sample a case."""
    return [
        Process(f"{line.folder} of {line.environment.created}", line.environment, _past_readings(line))
        for line in lines
        if isinstance(line, PastRun) and line.environment.created < before
    ]


def _past_readings(line: PastRun) -> tuple[Reading, ...]:
    usable = (case for case in line.cases if case.rate > 0)
    return tuple(Reading(case.key, (log(case.rate),)) for case in usable)
