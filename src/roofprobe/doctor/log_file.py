"""Reads one --nccl-log FILE in one pass: NCCL's own lines, nccl-tests' table, a watchdog's complaint, and ptxas'.

A log is whatever a launcher collected, of one process or of all, of any length; memory holds a line, and a bounded
number of facts. What a log says never raises.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
import re

from roofprobe.doctor.case import LogFile
from roofprobe.doctor.nccl_table import TableReader
from roofprobe.errors import BadInput
from roofprobe.files import open_regular
from roofprobe.nccl_log import COLOUR, lines_of, read_log
from roofprobe.nccl_log_summary import summarize

MAX_KEPT = 400
"""Lines of a watchdog; of a collective that hangs each rank writes four."""
MAX_KEPT_CHARACTERS = 500

_HANG = re.compile(
    r"Watchdog caught collective operation timeout|WorkNCCL\(SeqNum=|watchdog got stuck for|eartbeat monitor timed out"
    r"|failure detected by watchdog|detected by watchdog at work|flight recorder dump signal|lagging ranks|collective #"
    r"|(?:timed out in|failed to pass) monitoredBarrier|Timed out waiting \d+ ?ms for (?:recv|send) operation"
    r"|rank \d+ on .{1,300} (?:stopped answering|is late: no progress|is cut off: |died in )|ranks have waited for"
)
_NO_INTERFACE = re.compile(
    r"^(?!.*NCCL (?:WARN|INFO) ).*(?:Bootstrap ?: no (?:socket )?interface found|Unable to find address for: \S+)"
)
"""NCCL's own lines are read with their host."""
_PTXAS = re.compile(r"ptxas fatal *: .*'(?:sm|compute)_\w+' is not defined for option")


def read_log_file(path: Path) -> LogFile:
    """What the log says. Raises BadInput only where the file can't be read."""
    others = _Others(path)
    try:
        with open_regular(path) as file:
            processes = summarize(read_log(others.looked_at(lines_of(file))))
    except OSError as error:
        raise BadInput(f"can't read {path}: {error.strerror}; expected a log of NCCL's") from None
    return LogFile(
        path=path,
        processes=tuple(processes),
        measured=others.tables.links(),
        hangs=tuple(others.hangs),
        ptxas_errors=tuple(others.ptxas),
        no_interface=tuple(others.no_interface),
    )


class _Others:
    """What a log says beside NCCL's lines."""

    def __init__(self, path: Path) -> None:
        self.tables = TableReader(path.name)
        self.hangs: dict[str, None] = {}
        self.ptxas: dict[str, None] = {}
        self.no_interface: dict[str, None] = {}

    def looked_at(self, lines: Iterator[bytes]) -> Iterator[bytes]:
        """The lines as they are, each looked at. A line costs some literal searches, which is what keeps a long log
        short: a regular expression over every line would take minutes for 1 GB."""
        for line in lines:
            if b" NCCL INFO " not in line or b"atchdog" in line:
                self._look_at(line)
            yield line

    def _look_at(self, line: bytes) -> None:
        if (
            b"ollective" in line
            or b"atchdog" in line
            or b"eartbeat" in line
            or b"rank " in line
            or b"ranks " in line
            or b"WorkNCCL" in line
            or b"Timed out" in line
            or b"monitoredBarrier" in line
        ):
            _keep(line, _HANG, self.hangs)
        if b"interface found" in line or b"Unable to find address for" in line:
            _keep(line, _NO_INTERFACE, self.no_interface)
        if b"ptxas fatal" in line:
            _keep(line, _PTXAS, self.ptxas)
        if b"#" in line or self.tables.open:
            self.tables.add(line)


def _keep(line: bytes, telling: re.Pattern[str], kept: dict[str, None]) -> None:
    text = COLOUR.sub("", line.decode(errors="replace")).rstrip()
    found = telling.search(text)
    if found is not None and len(kept) < MAX_KEPT:
        # A progress bar that another line was written after may be thousands of characters long.
        start = max(0, found.start() - MAX_KEPT_CHARACTERS // 2)
        kept[text[start : start + MAX_KEPT_CHARACTERS].strip()] = None
