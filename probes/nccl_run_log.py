"""Comparisons of NCCL settings on the disk as they are made, so that an interrupted tuning goes on where it was."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import msgspec

from roofprobe.errors import BadInput, RoofprobeError
from roofprobe.nccl_tuning import NcclSetting


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """A setting's run and the defaults' beside it."""

    phase: Literal["screen", "confirm"]
    setting: NcclSetting
    round: int
    seconds: dict[int, float]
    default_seconds: dict[int, float]
    problem: str | None = None


class _Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    binding: str
    comparison: Comparison | None = None
    finished: bool = False
    """What lies before has been decided on: tuning once more measures once more."""


class RunLog:
    """Comparisons on the disk as they are made, a JSON line each; those of an unfinished run are found again.

    Raises BadInput where the file can't be opened or holds a line that is no record.
    """

    def __init__(self, path: Path, binding: str) -> None:
        self.path = path
        self._binding = binding
        self._known: list[Comparison] = []
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(path, "a+b")  # noqa: SIM115 - closed by __exit__
        except OSError as error:
            raise BadInput(f"can't write {path}: {error.strerror}; choose another place with --profile") from None
        self._file.seek(0)
        for number, text in enumerate(self._file.read().splitlines(keepends=True), start=1):
            self._take(number, text)

    def _take(self, number: int, text: bytes) -> None:
        if not text.endswith(b"\n"):  # a crash's torn last line
            self._file.truncate(self._file.tell() - len(text))
            return
        try:
            line = msgspec.json.decode(text, type=_Line)
        except msgspec.MsgspecError as error:
            self._file.close()
            raise BadInput(f"{self.path}: line {number}: {error}; delete the file to start anew") from None
        if line.binding != self._binding:
            return
        if line.finished:
            self._known.clear()
        if line.comparison is not None:
            self._known.append(line.comparison)

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *problem: object) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._known)

    def find(self, phase: str, setting: NcclSetting, round_: int) -> Comparison | None:
        """The comparison, if an interrupted run made it."""
        wanted = (phase, setting, round_)
        return next((c for c in self._known if (c.phase, c.setting, c.round) == wanted), None)

    def add(self, comparison: Comparison) -> None:
        """Puts a comparison on the disk."""
        self._append(_Line(binding=self._binding, comparison=comparison))
        self._known.append(comparison)

    def finish(self) -> None:
        """Says that the outcome is decided."""
        self._append(_Line(binding=self._binding, finished=True))

    def _append(self, line: _Line) -> None:
        try:
            self._file.write(msgspec.json.encode(line) + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise RoofprobeError(f"can't append to {self.path}: {error.strerror}; earlier lines are kept") from None
