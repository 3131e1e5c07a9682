"""Command-line conventions that every probe shares.

One line on stderr and status 2 for anything unusable; no abbreviated flags, since a script that relies on one breaks
when a flag is added; nccl-tests' sizes (``8``, ``64M``: powers of two).
"""

from __future__ import annotations

import argparse
from math import inf
from pathlib import Path
import re
import sys
from typing import NoReturn

from roofprobe.errors import BAD_INPUT

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {message}; see {self.prog} --help", file=sys.stderr)
        raise SystemExit(BAD_INPUT)


def parser(prog: str, description: str, epilog: str | None = None) -> argparse.ArgumentParser:
    """An argument parser that reports errors as one line, with status 2, and takes no abbreviated flags."""
    return _Parser(
        prog=prog,
        description=description,
        epilog=epilog,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def size(text: str) -> int:
    """Bytes from ``8``, ``64K``, ``1M``, ``2G`` (powers of two, as in nccl-tests; ``KiB`` and ``KB`` mean the same).

    Raises argparse.ArgumentTypeError for anything else, so that it can be an argument's ``type``.
    """
    match = re.fullmatch(r"([0-9]+)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if match is None:
        raise argparse.ArgumentTypeError(
            f"'{text}' is not a size; expected a whole number with an optional K, M, G or T, such as 64M"
        )
    return int(match[1]) * _UNITS[match[2].upper()]


def positive_int(text: str) -> int:
    """A whole number of at least 1, for counts of ranks, iterations and the like."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of at least 1")
    return int(text)


def non_negative_int(text: str) -> int:
    """A whole number of at least 0, for warm-ups and the like."""
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of at least 0")
    return int(text)


def positive_number(text: str) -> float:
    """A finite number above 0, for rates and the like."""
    if re.fullmatch(r"[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]{1,2})?", text) is None or not 0 < float(text) < inf:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number above 0")
    return float(text)


def duration(text: str) -> float:
    """Seconds from ``30``, ``2.5s``, ``35m`` or ``1h``."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*(s|m|h)?", text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(f"'{text}' is not a duration; expected seconds, or a number with s, m or h")
    return float(match[1]) * {None: 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def size_text(n_bytes: float) -> str:
    """``1.50 GiB``: a byte count for people."""
    value = float(n_bytes)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.2f} {unit}"
        value /= 1024
    return f"{value:.2f} GiB"


def existing_file(text: str) -> Path:
    """A path that names a readable file."""
    path = Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"no such file: '{text}'")
    return path
