"""What a tuning run has measured so far, on the disk as it goes: an interrupted one is resumed, not repeated.

One JSON line a measurement, appended to PROFILE.tuning.jsonl and flushed before the next begins. A line names what it
depends on: the machine and its software, the kernels' sources, what is tuned and for how long. A line that differs in
any of them is passed over. When a run has put its results into the profile it says so in a last line, and what lies
before that is never used again: the file keeps every raw sample, but tuning once more measures once more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
import hashlib
from pathlib import Path
from typing import Any, Literal

import msgspec

from roofprobe import lane_registers
from roofprobe.json_lines import append, open_journal, whole_lines
from roofprobe.measurement import Environment, Timing
from roofprobe.robust import median, median_interval
from roofprobe.tuned import ConfigFields

SHORT_LIVED = ("created", "memory_available_bytes", "interpreter")
"""Facts of an environment that no timing depends on."""
KERNELS = Path(__file__).parent.parent / "kernels"


class Tried(msgspec.Struct, frozen=True, kw_only=True, tag_field="line", tag="tried"):
    """One configuration in one phase: its timing paired with the default, or why there is none."""

    binding: str
    subject: str
    phase: Literal["screen", "confirm"]
    config: ConfigFields
    timing: Timing | None = None
    """`reference_seconds` are the default's; none where the default itself was timed."""
    wrong: int = 0
    """Elements of the result that are wrong."""
    problem: str | None = None
    """Why the configuration is out of the question."""

    @property
    def speedup(self) -> float:
        """Median of default seconds / seconds; 0 where nothing was timed."""
        ratios = () if self.timing is None or self.problem else self.timing.accepted_ratios
        return median(ratios) if ratios else 0.0

    def interval(self, confidence: float) -> tuple[float, float] | None:
        """Of `speedup`; None for too few samples."""
        return None if self.timing is None else median_interval(self.timing.accepted_ratios, confidence)


class Finished(msgspec.Struct, frozen=True, kw_only=True, tag_field="line", tag="finished"):
    """These subjects' results are in the profile."""

    binding: str
    subjects: tuple[str, ...]


_decoder = msgspec.json.Decoder(Tried | Finished)


def kernels_digest(folder: Path = KERNELS) -> str:
    """16 hex digits that change with any source of the kernels, the registers that their launches state included."""
    sources = [*sorted(folder.glob("*.py")), Path(lane_registers.__file__)]
    return hashlib.sha256(b"".join(path.name.encode() + path.read_bytes() for path in sources)).hexdigest()[:16]


def binding(environment: Environment, kernels: str) -> str:
    """16 hex digits that change with the machine, its software or the kernels."""
    facts: dict[str, Any] = msgspec.to_builtins(environment)
    lasting = {name: value for name, value in facts.items() if name not in SHORT_LIVED}
    return hashlib.sha256(msgspec.json.encode([lasting, kernels], order="sorted")).hexdigest()[:16]


class Journal:
    """The measurements of an unfinished run with this binding, and the place to append to.

    Raises BadInput where the file can't be opened, is in use by another run, or holds a line that is no record.
    """

    def __init__(self, path: Path, bound_to: str) -> None:
        self.path = path
        self.binding = bound_to
        self._file = open_journal(path)
        try:
            self._known = dict(self._unfinished())
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *problem: object) -> None:
        self._file.close()

    def __len__(self) -> int:
        """Measurements that an interrupted run left and that still hold."""
        return len(self._known)

    def find(self, subject: str, phase: str, config: ConfigFields) -> Tried | None:
        """The measurement, if it was made already."""
        return self._known.get(_key(subject, phase, config))

    def add(self, tried: Tried) -> None:
        """Puts a measurement on the disk."""
        append(self._file, self.path, tried)
        self._known[_key(tried.subject, tried.phase, tried.config)] = tried

    def finish(self, subjects: Iterable[str]) -> None:
        """Says that the results are in the profile."""
        append(self._file, self.path, Finished(binding=self.binding, subjects=tuple(subjects)))

    def _unfinished(self) -> Iterator[tuple[tuple[str, str, bytes], Tried]]:
        found = [line for line in whole_lines(self._file, self.path, _decoder) if line.binding == self.binding]
        last = {subject: i for i, line in enumerate(found) if isinstance(line, Finished) for subject in line.subjects}
        for i, line in enumerate(found):
            if isinstance(line, Tried) and i > last.get(line.subject, -1):
                yield _key(line.subject, line.phase, line.config), line


def _key(subject: str, phase: str, config: ConfigFields) -> tuple[str, str, bytes]:
    return subject, phase, msgspec.json.encode(config, order="sorted")
