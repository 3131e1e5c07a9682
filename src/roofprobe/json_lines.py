"""A file of JSON lines that is appended to and outlives a crash: each line is on the disk before the next is made."""

from __future__ import annotations

from collections.abc import Iterator
import fcntl
import os
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from roofprobe.errors import BadInput, CannotMeasure


def append(file: BinaryIO, path: Path, record: Any) -> None:
    """Puts one record at the end. Raises CannotMeasure naming `path` where it can't (a full disk)."""
    try:
        file.write(msgspec.json.encode(record) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    except OSError as error:
        raise CannotMeasure(f"can't append to {path}: {error.strerror}; earlier records are kept") from None


def open_journal(path: Path) -> BinaryIO:
    """Opens for reading and appending, for this process alone. Raises BadInput where it can't, or another has it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a+b")  # noqa: SIM115 - the journal's to close
    except OSError as error:
        raise BadInput(f"can't write {path}: {error.strerror}; choose another place with --profile") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise BadInput(f"{path} is in use: another roofprobe is tuning into the same profile") from None
    return file


def whole_lines(file: BinaryIO, path: Path, decoder: msgspec.json.Decoder[Any]) -> Iterator[Any]:
    """Every record of a journal; a torn last line, as a crash leaves it, is cut off the file.

    Raises BadInput naming the line for one that is no record.
    """
    file.seek(0)
    whole = 0
    for number, line in enumerate(file, start=1):
        if not line.endswith(b"\n"):
            file.truncate(whole)
            return
        whole += len(line)
        try:
            yield decoder.decode(line)
        except msgspec.MsgspecError as error:
            raise BadInput(f"{path}: line {number}: {error}; delete the file to start anew") from None
