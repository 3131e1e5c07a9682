"""Comparisons of NCCL settings on the disk as they are made, so that an interrupted tuning goes on where it was."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from roofprobe.json_lines import append, open_journal, whole_lines
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


_decoder = msgspec.json.Decoder(_Line)


class RunLog:
    """Comparisons on the disk as they are made, a JSON line each; those of an unfinished run are found again.

    Raises BadInput where the file can't be opened, is in use by another run, or holds a line that is no record.
    """

    def __init__(self, path: Path, binding: str) -> None:
        self.path = path
        self._binding = binding
        self._known: list[Comparison] = []
        self._file = open_journal(path)
        try:
            for line in whole_lines(self._file, path, _decoder):
                self._take(line)
        except BaseException:
            self._file.close()
            raise

    def _take(self, line: _Line) -> None:
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
        append(self._file, self.path, _Line(binding=self._binding, comparison=comparison))
        self._known.append(comparison)

    def finish(self) -> None:
        """Says that the outcome is decided."""
        append(self._file, self.path, _Line(binding=self._binding, finished=True))
