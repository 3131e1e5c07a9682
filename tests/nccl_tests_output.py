"""Reads nccl-tests' text output as the programs do that were written for it."""

from __future__ import annotations

import re

RANK = re.compile(
    r"^#  Rank +(?P<rank>\d+) Group +(?P<group>\d+) Pid +(?P<pid>\d+) on +(?P<host>\S+) device +(?P<device>\d+)"
    r" \[(?P<address>[^\]]+)\] (?P<name>.+)$",
    re.MULTILINE,
)


def by_negative_column(text: str, title: str, in_place: bool = False) -> dict[int, float]:
    """Message bytes -> the figure under `title`, found as superbench does.

    The table lies between the last line with "out-of-place" and the last with "Out of bounds values"; the title's
    place is counted from the end of the header, because reduction and root are empty for some collectives.
    """
    lines = text.splitlines()
    start = max(i for i, line in enumerate(lines) if "out-of-place" in line)
    stop = max(i for i, line in enumerate(lines) if "Out of bounds values" in line)
    index = None
    figures = {}
    for line in lines[start + 1 : stop]:
        words = line.lstrip("#").split()
        if "time" in words and "busbw" in words:
            places = [i - len(words) for i, word in enumerate(words) if word == title]
            index = places[-1 if in_place else 0]
        elif line.strip() and line.strip()[0].isdigit():
            assert index is not None
            figures[int(words[0])] = float(words[index])
    return figures


def average_bus_gb_per_s(text: str) -> float:
    """The last word of the one line that tells it, as a shell's grep and awk take it."""
    (line,) = [line for line in text.splitlines() if line.startswith("# Avg bus bandwidth")]
    return float(line.split()[-1])


def out_of_bounds(text: str) -> tuple[int, str]:
    """How many columns had wrong elements, and the verdict."""
    found = re.findall(r"^# Out of bounds values : (\d+) (OK|FAILED)$", text, re.MULTILINE)
    assert len(found) == 1
    return int(found[0][0]), found[0][1]
