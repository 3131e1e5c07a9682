"""The strict type of a validation's result, as `scripts/validate_gpu` writes it and docs/results keeps it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec

SCHEMA = "roofprobe/validation/1"
Figure = bool | int | float | str | list[float | None]


class Machine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was validated; bytes in full."""

    device: str
    python: str
    cuda: str | None = None
    versions: str
    modes: str
    """Decode modes that the device runs, ours for NVFP4 last."""
    cpus: int
    compute_capability: str
    multiprocessors: int
    l2_bytes: int
    memory_bytes: int
    integrated: bool
    devices: int
    driver: str | None = None


class Case(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of one part; a figure's unit is in its name."""

    case: Annotated[str, msgspec.Meta(min_length=1, max_length=300)]
    status: Literal["ok", "wrong", "failed", "invalid", "skipped"]
    detail: str = ""
    figures: dict[str, Figure]

    def number(self, name: str) -> float | None:
        value = self.figures.get(name)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

    def text(self, name: str) -> str:
        return str(self.figures.get(name, ""))


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One part's cases; `ended` is ``whole``, or why it did not end by itself."""

    name: str
    verdict: Literal["ok", "FAIL", "UNFINISHED", "INVALID", "SKIPPED"]
    ended: str
    seconds: float
    cases: tuple[Case, ...]


class Validation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One run on a GPU."""

    schema: Literal["roofprobe/validation/1"]
    created: str
    dry_run: Literal[False]
    machine: Machine
    parts: tuple[Part, ...]

    def cases(self, *parts: str) -> list[Case]:
        """Of these parts, or of all."""
        return [case for part in self.parts if not parts or part.name in parts for case in part.cases]


class _Kind(msgspec.Struct):
    schema: str = ""
    dry_run: bool = False


def read_results(folder: Path) -> list[Validation]:
    """Every validation of a GPU in `folder`, by device and date. A dry run, and JSON of another schema, is none.

    Raises ValueError, which names the file, for a validation that does not have the type.
    """
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            kind = msgspec.json.decode(path.read_bytes(), type=_Kind)
            if kind.schema == SCHEMA and not kind.dry_run:
                found.append(msgspec.json.decode(path.read_bytes(), type=Validation))
        except msgspec.ValidationError as error:
            if SCHEMA in path.read_text():
                raise ValueError(f"{path}: {error}") from None
        except msgspec.DecodeError as error:
            raise ValueError(f"{path}: {error}") from None
    return sorted(found, key=lambda each: (each.machine.device, each.created))
