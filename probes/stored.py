"""``--checkpoint``: measure the weights of a safetensors file in place of random ones.

Without ``--tensor`` the largest weight of each format and shape is measured, largest first, four at most: a model's
layers repeat the same few shapes. Rows that do not fit the memory at hand are left in the file.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from roofprobe.arguments import existing_file, non_negative_int, size_text
from roofprobe.errors import OK, BadInput
from roofprobe.probes.weights import BITS_PER_WEIGHT, Shape, Source

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from roofprobe.kernels.checkpoint import Checkpoint
    from roofprobe.kernels.checkpoint_header import StoredWeight
    from roofprobe.kernels.formats import Weight

MOST_WEIGHTS = 4


@dataclass(frozen=True)
class Wanted:
    """What the flags ask for."""

    file: Path
    tensor: str | None
    expert: int
    list_only: bool


def add_checkpoint_flags(parser: argparse.ArgumentParser) -> None:
    """``--checkpoint FILE``, ``--tensor NAME``, ``--expert I`` and ``--list``."""
    parser.add_argument(
        "--checkpoint", type=existing_file, metavar="FILE", help="measure this safetensors file's weights"
    )
    parser.add_argument(
        "--tensor", metavar="NAME", help=f"one weight of it (default: one of each shape, the {MOST_WEIGHTS} largest)"
    )
    parser.add_argument("--expert", type=non_negative_int, metavar="I", help="of a stack of experts (default 0)")
    parser.add_argument("--list", action="store_true", help="list its weights and measure nothing")


def wanted_from(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> Wanted | None:
    """The flags' request; None without ``--checkpoint``. Flags that contradict each other end in a usage error."""
    if arguments.checkpoint is None:
        for flag in ("tensor", "expert", "list"):
            given = getattr(arguments, flag)
            if given is not None and given is not False:
                parser.error(f"argument --{flag}: needs --checkpoint FILE")
        return None
    for flag in ("n", "k"):
        if getattr(arguments, flag) is not None:
            parser.error(f"argument --{flag}: a checkpoint's weights have their own shapes")
    return Wanted(arguments.checkpoint, arguments.tensor, arguments.expert or 0, arguments.list)


def stored_sources(wanted: Wanted, formats: Sequence[str], batch: int = 1) -> list[Source]:
    """What to measure. Raises BadInput for a file or weight that can't be read as it stands, and where there is none.

    A weight that is not whole ends the command even if it would not have been measured: half a checkpoint is no
    checkpoint. ``--tensor`` gets at the others.
    """
    found = _read(wanted)
    try:
        if wanted.tensor is not None:
            chosen = [found.find(wanted.tensor)]
        else:
            for problem in found.problems.values():
                raise BadInput(f"{problem}; pass --tensor NAME to measure another weight")
            chosen = _one_of_each_shape(found, formats)
    except ValueError as error:
        raise BadInput(str(error)) from None
    unfit = [w for w in chosen if w.format not in formats]
    if unfit or not chosen:
        has = ", ".join(sorted({w.format for w in unfit or found.weights})) or "no weight that the kernels read"
        raise BadInput(f"{wanted.tensor or wanted.file}: expected {' or '.join(formats)}, got {has}")
    return [_source(found, weight, wanted.expert, batch) for weight in chosen]


def show_listing(wanted: Wanted, as_json: bool) -> int:
    """Prints every weight of the file, largest first, then what is not whole and why; returns the exit status."""
    found = _read(wanted)
    if as_json:
        document = {"weights": found.weights, "problems": found.problems}
        print(msgspec.json.format(msgspec.json.encode(document)).decode())
        return OK
    for weight in found.weights:
        print(f"{weight.format:<7}{_shape(weight):<22}{size_text(_bytes(weight)):>12}  {weight.maker:<20}{weight.name}")
    for problem in found.problems.values():
        print(f"unusable: {problem}")
    return OK


def _read(wanted: Wanted) -> Checkpoint:
    from roofprobe.kernels.checkpoint import read_checkpoint

    try:
        return read_checkpoint(wanted.file)
    except ValueError as error:
        raise BadInput(str(error)) from None


def _one_of_each_shape(found: Checkpoint, formats: Sequence[str]) -> list[StoredWeight]:
    first: dict[tuple[str, tuple[int, int]], StoredWeight] = {}
    for weight in found.weights:
        if weight.format in formats:
            first.setdefault((weight.format, weight.shape), weight)
    return list(first.values())[:MOST_WEIGHTS]


def _source(found: Checkpoint, weight: StoredWeight, expert: int, batch: int) -> Source:
    from roofprobe.kernels.checkpoint import load

    if expert >= (weight.experts or 1):
        raise BadInput(f"--expert: {weight.name!r} has {weight.experts or 1}, got {expert}")

    def make(rows: int, copy: int, device: torch.device) -> Weight:  # noqa: ARG001 - every copy is the same weight
        try:
            return load(found, weight, device, rows=rows, expert=expert)
        except ValueError as error:
            raise BadInput(str(error)) from None

    note = weight.name if weight.experts is None else f"{weight.name}[{expert}]"
    return Source(Shape(*weight.shape, batch), weight.format, make, note)


def _shape(weight: StoredWeight) -> str:
    n, k = weight.shape
    return f"{n}x{k}" if weight.experts is None else f"{weight.experts}x {n}x{k}"


def _bytes(weight: StoredWeight) -> int:
    return int(weight.elements * (weight.experts or 1) * BITS_PER_WEIGHT[weight.format] / 8)
