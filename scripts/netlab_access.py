"""Where a lab's namespaces can be made: as root directly, else inside a user namespace that one process keeps alive.

Everything a lab does is an `ip`, `tc` or `unshare` command, so all that differs is the words before it: none, or those
that enter the process's namespaces first. No state is kept in files: the process is found by its command line, and
ends with the lab.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
import os
from pathlib import Path
import select
import shutil
import signal
import subprocess
import sys
from time import sleep

from roofprobe.errors import CannotMeasure, RoofprobeError

NEEDED = ("ip", "tc", "unshare", "nsenter", "setsid")
HOLDER = "roofprobe-netlab-holder"
HOLD = "import signal, sys; print('ready', flush=True); sys.stdout.close(); signal.pause()"
START_SECONDS = 10


def run(command: Sequence[str]) -> str:
    """A command's output. Raises RoofprobeError with its last line of complaint where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        complaint = (done.stderr.strip() or done.stdout.strip() or f"status {done.returncode}").splitlines()[-1]
        raise RoofprobeError(f"`{' '.join(command)}` failed: {complaint}")
    return done.stdout


def is_permitted_directly() -> bool:
    """Whether this process may make named namespaces: root often may not, in a container."""
    return os.geteuid() == 0 and os.access("/run", os.W_OK) and _succeeds("unshare", "-nm", "true")


def open_access(lab: str) -> tuple[str, ...]:
    """The words before every command of this lab; starts the process that holds its namespaces where one is needed.

    Raises CannotMeasure where neither way is open, or a program is missing.
    """
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        raise CannotMeasure(f"needs {', '.join(missing)}; install iproute2 and util-linux")
    if is_permitted_directly():
        return ()
    holder = find_holder(lab)
    if holder is None:
        start_process(
            ["unshare", "-Urnm", "sh", "-c",
             'mount -t tmpfs tmpfs /run && mkdir /run/netns && exec "$@"', "sh",
             sys.executable, "-c", HOLD, HOLDER, lab],
            CannotMeasure("this system forbids network namespaces, to this user as well as in a user namespace (unshare"
                          " -Urnm); run it as root, or in a container that has CAP_SYS_ADMIN and CAP_NET_ADMIN"),
        )  # fmt: skip
        holder = find_holder(lab)
        assert holder is not None, "it has just said that it is ready"
    return _enter(holder)


def find_access(lab: str) -> tuple[str, ...]:
    """The words before every command of this lab, starting nothing."""
    holder = find_holder(lab)
    return () if holder is None else _enter(holder)


def close_access(lab: str) -> None:
    """Ends the process that holds this lab's namespaces, if there is one, and them with it; returns once it is gone."""
    while (holder := find_holder(lab)) is not None:
        with suppress(ProcessLookupError):
            os.kill(holder, signal.SIGKILL)
        sleep(0.01)


def find_holder(lab: str) -> int | None:
    """The process id of this user's holder of this lab."""
    return next(
        (pid for pid, words in _own_commands() if words[-2:] == [HOLDER, lab] and HOLD in words[:-2][-1:]), None
    )


def start_process(command: Sequence[str], refusal: RoofprobeError) -> None:
    """Starts a process of a session of its own and nobody's child, which says "ready" and stays. Raises `refusal` else.

    One that never says it is left to whoever takes the lab down.
    """
    with subprocess.Popen(
        ["setsid", "--fork", *command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as parent:
        assert parent.stdout is not None
        if not (select.select([parent.stdout], [], [], START_SECONDS)[0] and parent.stdout.readline() == b"ready\n"):
            raise refusal


def _enter(holder: int) -> tuple[str, ...]:
    return ("nsenter", "--target", str(holder), "--user", "--net", "--mount", "--preserve-credentials")


def _own_commands() -> Iterator[tuple[int, list[str]]]:
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            if folder.stat().st_uid == os.geteuid():
                yield int(folder.name), (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
        except OSError:
            continue  # it has ended meanwhile


def _succeeds(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False
