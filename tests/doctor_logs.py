"""Diagnoses logs as text, for tests of the doctor's rules over NCCL's logs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from roofprobe.doctor.case import Case
from roofprobe.doctor.diagnosis import diagnose
from roofprobe.doctor.log_file import read_log_file
from roofprobe.finding import Finding


def read_case(folder: Path, logs: Mapping[str, Sequence[str]] | Sequence[str], **given: Any) -> Case:
    """A case of these logs, by file name, or of one log; `given` is the rest of the case."""
    named = logs if isinstance(logs, Mapping) else {"nccl.log": logs}
    for name, lines in named.items():
        (folder / name).write_text("\n".join([*lines, ""]))
    return Case(logs=tuple(read_log_file(folder / name) for name in named), **given)


def faults(folder: Path, logs: Mapping[str, Sequence[str]] | Sequence[str], **given: Any) -> list[Finding]:
    """Everything that is found, warnings too."""
    return list(diagnose(read_case(folder, logs, **given)))


def named(found: Sequence[Finding]) -> list[tuple[str, str]]:
    """(id, host) of faults; (id, host + " (warning)") of anything less."""
    return [(f.id, f.host if f.severity == "fault" else f"{f.host} ({f.severity})") for f in found]
