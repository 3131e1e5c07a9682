"""nccl-tests' table, or roofprobe's, as it stands in a log.

Whatever a launcher put before its lines, or another rank wrote between them, is passed over.

The columns are found by the words of the header, counted from ``type`` on, since ``-I`` and a time stamp add some.
"""

from __future__ import annotations

from math import isfinite
import re

from roofprobe.doctor.case import MeasuredLink

LARGE_BYTES = 16 << 20
"""From here on a message measures the link; below it latency counts too."""
MAX_TABLES = 1000
MAX_DEVICES = 1024
_MAX_GB_PER_S = 1e6
_STARTING = re.compile(r"# Collective test starting: (?:\S*/)?([a-z_]{3,40}?)(?:_perf)?\s*$")
_DEVICE = re.compile(
    r"#  Rank +\d{1,7} Group +\d{1,7} Pid +\d{1,10} on +(\S{1,255}) device +\d{1,4} \[[^\]]{1,40}\] (.{1,100})"
)
_TRANSPORT = re.compile(r"# transport: (.{1,300})")
_SLOW_RANK = re.compile(r"slow rank \d{1,7} on .{1,400}")
_ROW = re.compile(
    r"(?:^|[\s>:|])(\d{1,19}) +\d{1,19} +(?:float|half|double|bfloat16|u?int(?:8|32|64)|f[p8]\w{1,10}) +(.+)$"
)


class TableReader:
    """Takes a log's lines in order; `links` are the tables that it found, each with its best bandwidth."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._links: list[MeasuredLink] = []
        self._collective: str | None = None
        self._devices: list[tuple[str, str]] = []
        self._transport: str | None = None
        self._slow: dict[str, None] = {}
        self._columns: list[str] = []
        self._best: dict[bool, tuple[float, int]] = {}

    @property
    def open(self) -> bool:
        """Whether a header was seen, so that rows may follow; until then only lines with a # count."""
        return bool(self._columns)

    def add(self, line: bytes) -> None:
        """Any line; those that belong to no table are passed over."""
        if b"#" in line:
            self._add_heading(line.decode(errors="replace").rstrip())
        elif self._columns:
            self._add_row(line.decode(errors="replace").rstrip())

    def links(self) -> tuple[MeasuredLink, ...]:
        self._end()
        return tuple(self._links)

    def _add_heading(self, line: str) -> None:
        starting = _STARTING.search(line)
        device = None if starting else _DEVICE.search(line)
        if starting:
            self._end()
            self._collective = starting[1]
        elif device:
            if self._columns:
                self._end()
            if len(self._devices) < MAX_DEVICES:
                self._devices.append((device[1], device[2].strip()))
        elif transport := _TRANSPORT.search(line):
            self._transport = transport[1]
        elif slow := _SLOW_RANK.search(line):
            self._slow[slow[0]] = None
        elif "busbw" in line and "type" in line:
            if self._best:
                self._end()
            words = line.split()
            self._columns = words[words.index("type") + 1 :] if "type" in words else []

    def _add_row(self, line: str) -> None:
        found = _ROW.search(line)
        if found is None:
            return
        words = found[2].split()
        # Very old versions leave reduction and root empty, so there the places count from the end.
        missing = max(0, len(self._columns) - len(words))
        places = [place - missing for place, title in enumerate(self._columns) if title == "busbw"]
        rates = [rate for place in places if 0 <= place < len(words) and (rate := _rate(words[place])) is not None]
        if rates:
            keep_best(self._best, int(found[1]), max(rates))

    def _end(self) -> None:
        """The table is over, and what it said of its ranks with it."""
        if self._best and len(self._links) < MAX_TABLES:
            rate, size = best_of(self._best)
            self._links.append(
                MeasuredLink(
                    source=self._source,
                    collective=self._collective,
                    ranks=len(self._devices) or None,
                    bytes=size,
                    busbw_gb_per_s=rate,
                    hosts=tuple(dict.fromkeys(host for host, _ in self._devices)),
                    gpu=self._devices[0][1] if self._devices else None,
                    transport=self._transport,
                    slow_ranks=tuple(self._slow)[:MAX_DEVICES],
                )
            )
        self._collective, self._transport, self._devices, self._columns = None, None, [], []
        self._best, self._slow = {}, {}


def keep_best(best: dict[bool, tuple[float, int]], size: int, gb_per_s: float) -> None:
    """The best rate and its size, of large messages and of the others apart."""
    large = size >= LARGE_BYTES
    best[large] = max(best.get(large, (0.0, 0)), (gb_per_s, size))


def best_of(best: dict[bool, tuple[float, int]]) -> tuple[float, int]:
    """Of the large messages where there are any; 0 GB/s at 0 bytes where nothing was measured."""
    return best.get(True) or best.get(False) or (0.0, 0)


def _rate(word: str) -> float | None:
    try:
        value = float(word)
    except ValueError:
        return None
    return value if isfinite(value) and 0 < value < _MAX_GB_PER_S else None
