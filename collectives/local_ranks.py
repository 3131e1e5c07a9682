"""Starts the ranks of one host as processes, and sees that none outlives the others.

torchrun does this too, at the price of seconds for its agent; here a rank starts as fast as Python does. Rank 0
inherits a socket that already listens, so no port has to be guessed free.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
import ctypes
import os
import signal
import socket
import subprocess
import sys
from threading import Thread
from time import monotonic, sleep
from typing import IO

from roofprobe.collectives.process_group import STORE_DESCRIPTOR
from roofprobe.errors import FAILED

PARENT = "ROOFPROBE_PARENT"
GRACE_SECONDS = 3.0
"""How long a rank may take to end by itself once another has failed or it was told to."""


def gpu_count() -> int:
    """GPUs that torch would use; 0 without importing it where no NVIDIA device node exists."""
    if not (os.path.exists("/dev/nvidiactl") or os.path.exists("/dev/dxg")):
        return 0
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def run_ranks(
    name: str,
    arguments: Sequence[str],
    ranks: int,
    on_line: Callable[[str], None] | None = None,
    on_error_line: Callable[[str], None] | None = None,
) -> int:
    """Runs ``python ARGUMENTS`` as `ranks` ranks of this host and returns the status of the first that failed, else 0.

    A rank that fails or dies takes the others with it, and one killed by a signal is told in a line that begins with
    `name`. Output passes through, or, line by line and without the line's end, to `on_line` (stdout) and
    `on_error_line` (stderr). Any exception, Ctrl-C among them, ends all ranks before it goes on.
    """
    with socket.create_server(("127.0.0.1", 0), backlog=max(128, 2 * ranks)) as listener:
        listener.set_inheritable(True)
        processes: list[subprocess.Popen[str]] = []
        readers: list[Thread] = []
        try:
            for rank in range(ranks):
                process = subprocess.Popen(
                    [sys.executable, *arguments],
                    env=_environment(os.environ, rank, ranks, listener),
                    stdin=subprocess.DEVNULL,
                    stdout=None if on_line is None else subprocess.PIPE,
                    stderr=None if on_error_line is None else subprocess.PIPE,
                    text=True,
                    pass_fds=(listener.fileno(),) if rank == 0 else (),
                    # In a session of its own, Ctrl-C reaches this process alone, which ends the ranks in order.
                    start_new_session=True,
                )
                processes.append(process)
                for stream, callback in ((process.stdout, on_line), (process.stderr, on_error_line)):
                    if stream is not None and callback is not None:
                        reader = Thread(target=_read, args=(stream, callback), daemon=True)
                        reader.start()
                        readers.append(reader)
            return _wait(name, processes, on_error_line or _to_stderr)
        finally:
            _end(processes)
            for reader in readers:
                reader.join()


def run_first(ranks: int) -> None:
    """For a rank without a GPU: from here on it goes before every ordinary process, where that is permitted.

    Otherwise it is the scheduler that is measured: an 8-byte all-reduce of two ranks on two cores took 300 to 1800 us,
    and 190 to 230 with this. More ranks than CPUs would keep each other waiting, and the rest of the machine.
    """
    if ranks <= len(os.sched_getaffinity(0)) and not gpu_count():
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))


def runs_first() -> bool:
    """Whether this process goes before ordinary ones."""
    return os.sched_getscheduler(0) in (os.SCHED_RR, os.SCHED_FIFO)


def die_with_parent() -> None:
    """For a rank: the kernel ends this process when the launching thread dies, even by SIGKILL (Linux only)."""
    parent = os.environ.get(PARENT)
    if parent is None or not sys.platform.startswith("linux"):
        return
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != int(parent):
        os._exit(FAILED)


def _environment(base: Mapping[str, str], rank: int, ranks: int, listener: socket.socket) -> dict[str, str]:
    environment = {
        # Two ranks on the same cores gain nothing from more threads, and one spinning pool slows the other rank.
        "OMP_NUM_THREADS": "1",
        # gloo otherwise looks up the host's name, which may not resolve.
        "GLOO_SOCKET_IFNAME": "lo",
        **base,
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(ranks),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(listener.getsockname()[1]),
        PARENT: str(os.getpid()),
    }
    if rank == 0:
        environment[STORE_DESCRIPTOR] = str(listener.fileno())
    return environment


def _wait(name: str, processes: Sequence[subprocess.Popen[str]], complain: Callable[[str], None]) -> int:
    """Until all have ended, or one has failed and the others have had their time; the first failure's status."""
    failed: dict[int, int] = {}
    deadline = None
    while True:
        running = False
        for rank, process in enumerate(processes):
            code = process.poll()
            running = running or code is None
            if code and rank not in failed:
                failed[rank] = code
                if code < 0:
                    complain(f"{name}: rank {rank} (pid {process.pid}) was ended by {signal.Signals(-code).name}")
        if failed and deadline is None:
            deadline = monotonic() + GRACE_SECONDS
        if not running or (deadline is not None and monotonic() > deadline):
            first = next(iter(failed.values()), 0)
            return first if first >= 0 else FAILED
        sleep(0.02)


def _end(processes: Sequence[subprocess.Popen[str]]) -> None:
    for process in processes:
        if process.poll() is None:
            process.terminate()
    deadline = monotonic() + GRACE_SECONDS
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, deadline - monotonic()))
        if process.poll() is None:
            process.kill()
            process.wait()


def _read(stream: IO[str], callback: Callable[[str], None]) -> None:
    with stream:
        for line in stream:
            callback(line.rstrip("\n"))


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr)
