"""One part's process: a time limit, its lines as they come, no more of its output than fits, nothing left behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
import os
from pathlib import Path
import signal
import subprocess
from threading import Thread
import time
from typing import IO

LONGEST_LINE = 1 << 16
MOST_ERRORS = 1 << 20
"""Bytes of stderr that are kept; a process that floods it goes on, and its words are dropped."""
TO_END = 5.0


def run_part(
    command: Sequence[str],
    environment: Mapping[str, str],
    seconds: float,
    errors: Path,
    on_line: Callable[[bytes], None],
) -> str:
    """Hands each line of stdout to `on_line`; returns how it ended: ``whole``, or why it did not end by itself.

    A line longer than 64 KiB comes in pieces. What the part says on stderr goes to the file `errors`. A process past
    its time gets SIGTERM, and SIGKILL 5 s later, as does whatever it has started; so does one that Ctrl-C ends.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        start_new_session=True,
    )
    problems: list[BaseException] = []
    reader = Thread(target=_read, args=(process.stdout, on_line, problems), daemon=True)
    drain = Thread(target=_keep, args=(process.stderr, errors), daemon=True)
    reader.start()
    drain.start()
    try:
        reader.join(timeout=seconds)
        stopped = reader.is_alive()
        if not stopped:
            process.wait(timeout=TO_END)
    except subprocess.TimeoutExpired:
        stopped = True  # it has closed its output and does not end
    finally:
        end(process)
        for thread in (reader, drain):  # a process that hangs within the driver can't be killed: it is left behind
            thread.join(timeout=TO_END)
    if problems:
        raise problems[0]
    if stopped:
        return f"stopped after {seconds:.0f} s"
    if process.returncode == 0:
        return "whole"
    told = errors.read_text(errors="replace").strip().splitlines()[-1:] if errors.exists() else []
    how = f"status {process.returncode}" if process.returncode > 0 else signal.Signals(-process.returncode).name
    return ": ".join([f"ended with {how}", *told])[:300]


def end(process: subprocess.Popen[bytes]) -> None:
    """Asks, waits while the part is there, and kills whatever is left of its session's first group."""
    _signal(process, signal.SIGTERM)
    deadline = time.monotonic() + TO_END
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    _signal(process, signal.SIGKILL)


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        return


def _read(stream: IO[bytes], on_line: Callable[[bytes], None], problems: list[BaseException]) -> None:
    try:
        while line := stream.readline(LONGEST_LINE):
            on_line(line)
    except BaseException as error:  # noqa: BLE001 - a full disk, say: raised again where the part was started
        problems.append(error)


def _keep(stream: IO[bytes], path: Path) -> None:
    kept = 0
    while data := stream.read1(LONGEST_LINE):  # type: ignore[attr-defined]  # a BufferedReader's
        if kept < MOST_ERRORS:
            with path.open("ab") as file:
                file.write(data)
        kept += len(data)
