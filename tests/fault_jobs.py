"""Jobs of a few ranks with places set by hand, each with output of its own, for tests that make one of them fail."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
import json
import os
from pathlib import Path
import socket
import subprocess
import sys
import time

PROBE = Path(__file__).resolve().parent.parent / "probes" / "allreduce.py"
LAUNCHER_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
HOST = socket.gethostname()
GRACE_SECONDS = 10
"""After the deadline: by then every rank must have ended."""
START_SECONDS = 30
"""What ranks may take to import torch on a machine that does other things too."""

# 8 B is soon over; 4 MiB then takes seconds, to be hit in the middle of.
LONG = ["-b", "8", "-e", "4M", "-f", "524288", "-n", "400", "-w", "1"]


@dataclass(frozen=True)
class Ended:
    """How one rank ended."""

    status: int
    seconds: float
    """Since the fault; where there was none, meaningless."""
    errors: list[str]
    """What it said on stderr, in lines."""


@dataclass
class Job:
    """Ranks under way."""

    folder: Path
    processes: dict[int, subprocess.Popen[str]]
    deadline: int
    since: float = field(default_factory=lambda: time.monotonic() + START_SECONDS)

    @property
    def output_file(self) -> Path:
        return self.folder / "out.json"

    def document(self) -> dict[str, object]:
        found: dict[str, object] = json.loads(self.output_file.read_text())
        return found

    def sizes(self) -> list[int]:
        results = self.document()["results"]
        assert isinstance(results, list)
        return [result["size"] for result in results]

    def wait_for_output(self) -> None:
        """Until the first size is in the file."""
        deadline = time.monotonic() + 60
        while not self.output_file.exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def wait_for_timed_loop(self) -> None:
        """Until the second size's first loop is surely under way."""
        self.wait_for_output()
        time.sleep(1.0)

    def fault(self) -> None:
        """From now on counts the time."""
        self.since = time.monotonic()

    def wait(self) -> dict[int, Ended]:
        """Every rank's end, by rank; fails where one is later than allowed."""
        ended: dict[int, Ended] = {}
        while len(ended) < len(self.processes):
            seconds = time.monotonic() - self.since
            for rank, process in self.processes.items():
                if rank not in ended and process.poll() is not None:
                    errors = (self.folder / f"stderr{rank}").read_text().splitlines()
                    ended[rank] = Ended(process.returncode, seconds, errors)
            assert seconds < self.deadline + GRACE_SECONDS, (
                f"still running {seconds:.1f} s after the fault: {set(self.processes) - set(ended)}"
            )
            time.sleep(0.02)
        return ended


@contextmanager
def job(
    folder: Path,
    world_size: int,
    flags: Sequence[str],
    *,
    deadline: int,
    present: Sequence[int] | None = None,
    program: Path = PROBE,
    flags_of: dict[int, Sequence[str]] | None = None,
) -> Iterator[Job]:
    """Starts the ranks `present` (all) of `world_size` with `flags`, or with others where `flags_of` has them.

    A short deadline also bounds how far apart the ranks may start.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
    kept = {name: value for name, value in os.environ.items() if name not in LAUNCHER_VARIABLES}
    processes = {}
    for rank in range(world_size) if present is None else present:
        arguments = [*(flags_of or {}).get(rank, flags), "-T", str(deadline), "-J", str(folder / "out.json")]
        with open(folder / f"stdout{rank}", "w") as out, open(folder / f"stderr{rank}", "w") as error:
            processes[rank] = subprocess.Popen(
                [sys.executable, str(program), *arguments],
                env={**kept, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo",
                     "RANK": str(rank), "WORLD_SIZE": str(world_size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port},
                stdout=out, stderr=error, text=True,
            )  # fmt: skip
    try:
        yield Job(folder, processes, deadline)
    finally:
        for process in processes.values():
            process.kill()
            process.wait()
