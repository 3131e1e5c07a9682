"""Nominal ceilings: what a machine's memory could move at best, each figure with the place where it was read.

A platform file (data/platforms/*.toml) says how to recognise a machine and what its memory is. A machine that none
of them matches has no nominal ceiling: its rows then show the ceiling measured in the same run and nothing else.
The peak is never computed from a clock attribute: on GB10 that arithmetic gives twice the truth.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
import tomllib

import msgspec

from roofprobe.errors import BadInput
from roofprobe.measurement import Side

PLATFORM_FOLDER = Path(__file__).parent / "data" / "platforms"


class Figure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A number and where it was read."""

    value: float
    source: str


class Match(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a machine is recognised: the GPU's name, and the product name of its firmware where several share a GPU."""

    gpu: tuple[str, ...]
    product: tuple[str, ...] = ()


class Memory(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The memory that the GPU reads, and the CPU too where it is unified."""

    name: str
    unified: bool
    nominal_gb_per_s: Figure
    usable_gib: Figure | None = None


class Platform(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One kind of machine."""

    name: str
    title: str
    match: Match
    memory: Memory

    def nominal_gb_per_s(self, side: Side) -> float | None:
        """The ceiling of one side: the host has the device's only where they share the memory."""
        if side == "host" and not self.memory.unified:
            return None
        return self.memory.nominal_gb_per_s.value


def load_platform(path: Path) -> Platform:
    """Reads one platform file. Raises BadInput naming the file, the field, what was expected and what was found."""
    try:
        return msgspec.convert(tomllib.loads(path.read_text()), Platform, strict=False)
    except OSError as error:
        raise BadInput(f"can't read platform file {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise BadInput(f"{path}: {error}") from None


@cache
def platforms() -> tuple[Platform, ...]:
    """Every platform file that ships with roofprobe."""
    return tuple(load_platform(path) for path in sorted(PLATFORM_FOLDER.glob("*.toml")))


def find_platform(gpu: str | None, product: str | None) -> Platform | None:
    """The platform with this GPU; where several share it, the one whose product name is part of this machine's.

    Makers write the same name with spaces, underscores or neither, so only letters and digits are compared. A GB10 of
    an unknown make still has GB10's memory: the platform without a product list stands for it.
    """
    with_gpu = [p for p in platforms() if gpu is not None and gpu in p.match.gpu]
    found = _letters(product or "")
    by_product = [p for p in with_gpu if any(_letters(name) in found for name in p.match.product)]
    return next(iter(by_product or [p for p in with_gpu if not p.match.product]), None)


def _letters(text: str) -> str:
    return "".join(c for c in text.lower() if c.isalnum())
