"""Has NCCL write its log where this process alone can read it, and leaves a log alone that the user asked for.

NCCL reads its environment once, when the first communicator is made, so that has to be set before. The log goes into
anonymous memory: nothing is left on a disk, whatever ends the process. It costs nothing in a timed loop: NCCL logs
set-up under INIT and NET, and single operations under COLL and TUNING, which are not asked for.

Where the user has set NCCL_DEBUG, the output is theirs, and nothing is changed; if they gave a file, it is read.

Source: NCCL, src/debug.cc (%h and %p in the file's name; a file is opened anew and line by line).
"""

from __future__ import annotations

from collections.abc import MutableMapping
import os
import re
import socket
from typing import BinaryIO

from roofprobe.nccl_log import lines_of, read_log
from roofprobe.nccl_log_summary import ProcessLog, summarize

SUBSYSTEMS = "INIT,BOOTSTRAP,NET,ENV"


class NcclDebug:
    """Make one before the process group; `read` after the first collectives; `restore` once a communicator exists."""

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        self._environment = environment
        self._set: list[str] = []
        self._memory: int | None = None
        if "NCCL_DEBUG" in environment or "NCCL_DEBUG_FILE" in environment:
            return
        self._memory = os.memfd_create("nccl-log")
        if not os.path.exists(f"/proc/self/fd/{self._memory}"):
            return  # NCCL could not open it either, and would write to stdout
        for name, value in (
            ("NCCL_DEBUG", "INFO"),
            ("NCCL_DEBUG_SUBSYS", SUBSYSTEMS),
            ("NCCL_DEBUG_FILE", f"/proc/self/fd/{self._memory}"),
        ):
            if name not in environment:
                environment[name] = value
                self._set.append(name)

    def restore(self) -> None:
        """Takes back what was set, so that no record shows it as the user's; NCCL has read it by then."""
        for name in self._set:
            self._environment.pop(name, None)
        self._set = []

    def read(self) -> ProcessLog | None:
        """This process' part of the log; None where there is no log that it can read."""
        path = f"/proc/self/fd/{self._memory}" if self._memory is not None else self._users_file()
        if path is None:
            return None
        try:
            with open(path, "rb") as file:
                return _own_part(file)
        except OSError:
            return None

    def _users_file(self) -> str | None:
        pattern = self._environment.get("NCCL_DEBUG_FILE")
        if not pattern or self._environment.get("NCCL_DEBUG", "").upper() not in ("INFO", "TRACE"):
            return None
        # NCCL cuts the host's name at the first dot.
        known = {"%h": socket.gethostname().partition(".")[0], "%p": str(os.getpid()), "%%": "%"}
        return re.sub(r"%.", lambda found: known.get(found[0], found[0]), pattern)


def _own_part(file: BinaryIO) -> ProcessLog | None:
    found = summarize(read_log(lines_of(file)))
    return next((process for process in found if process.pid == os.getpid()), None)
