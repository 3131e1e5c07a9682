"""A process beside each rank that ends it when it does not run any more: python guardian.py PID SECONDS NAME.

A rank that is stopped, or whose interpreter is held by a call that never returns, can't keep its own deadline. Its
watch thread writes a line, the present phase, at least once a second; where none comes for SECONDS, the rank is
killed. It ends by itself when the rank does, and counts only time in which it runs itself, so that a suspended machine
kills nothing. It is run by path, with nothing but the standard library: 30 ms.
"""

from __future__ import annotations

import os
from select import select
import signal
import subprocess
import sys
from typing import IO

SLICE_SECONDS = 1.0


def start_guardian(seconds: float, name: str) -> IO[bytes]:
    """Starts the guardian of this process; to the returned pipe go the lines, and closing it is the end of it."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(seconds), name],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        # Outside the rank's process group: what stops the group must not stop its guardian.
        start_new_session=True,
    )
    assert process.stdin is not None
    os.set_blocking(process.stdin.fileno(), False)
    return process.stdin


def _guard(pid: int, seconds: float, name: str) -> None:
    silent, phase = 0.0, "joining"
    while silent < seconds:
        if not select([sys.stdin], [], [], SLICE_SECONDS)[0]:
            silent += SLICE_SECONDS
            continue
        data = os.read(sys.stdin.fileno(), 1 << 16)
        if not data:
            return
        silent, phase = 0.0, data.decode(errors="replace").splitlines()[-1]
    os.kill(pid, signal.SIGKILL)
    what = f"did not run for {silent:.0f} s in {phase}, so it was ended; was it stopped?"
    print(f"{name} {what}", file=sys.stderr)


if __name__ == "__main__":
    # The rank's signals are not its guardian's.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    _guard(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3])
