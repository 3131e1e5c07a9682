"""Real nodes for tests: a lab of scripts/netlab that ends with the test, ranks on it, and what came out of them.

    with lab(3, rate="1gbit") as nodes:                     Lab: .nodes, .shape(2, rate=...), .link(3, up=False), ...
        ranks = start_probe(nodes, ["-b", "8", "-e", "1M"], "by hand")
        ...                                                 a Popen a node: with "by hand" the rank itself
        done = finish(ranks, seconds=60)

Tests that use it carry the marker netns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
import json
import os
from pathlib import Path
import subprocess
import sys
import textwrap
import threading
from time import monotonic

from netlab_build import up
from netlab_nodes import Lab, down
from netlab_ranks import Meeting, end, run_ranks
import psutil

ROOT = Path(__file__).resolve().parent.parent
NETLAB = ROOT / "scripts" / "netlab"
PROBE = ROOT / "probes" / "allreduce.py"
FRAME_HEADERS = 66
"""bytes: Ethernet 14, IPv4 20, TCP 20 and its timestamps 12"""
GOODPUT = 1448 / 1514
"""The share of a full frame that is TCP's payload."""

_numbers = count()


def lab_name() -> str:
    """One that no other test and no person uses."""
    return f"test{os.getpid()}x{next(_numbers)}"


@contextmanager
def lab(nodes: int, *, rate: str | None = None, delay_seconds: float | None = None) -> Iterator[Lab]:
    """A lab for one test or one file; every process on it ends with it."""
    name = lab_name()
    try:
        yield up(name, nodes, rate=rate, delay_seconds=delay_seconds)
    finally:
        down(name)


def start_probe(
    nodes: Lab, arguments: Sequence[str | Path], meeting: Meeting = "static"
) -> list[subprocess.Popen[str]]:
    """One rank of the all-reduce probe on every node, on the CPU: rank 0 first. Both outputs are pipes."""
    return run_ranks(
        nodes,
        [str(PROBE), *map(str, arguments)],
        meeting,
        {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT / "src")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finish(processes: Sequence[subprocess.Popen[str]], seconds: float) -> list[subprocess.CompletedProcess[str]]:
    """Status and outputs of each, in order, once all have ended. Raises TimeoutError, having ended them, if they don't.

    Every pipe is read at once, so that no process waits for a reader.
    """
    outputs: list[tuple[str, str]] = [("", "")] * len(processes)

    def read(at: int) -> None:
        outputs[at] = processes[at].communicate()

    readers = [threading.Thread(target=read, args=(at,)) for at in range(len(processes))]
    for reader in readers:
        reader.start()
    deadline = monotonic() + seconds
    for reader in readers:
        reader.join(max(0.0, deadline - monotonic()))
    if any(reader.is_alive() for reader in readers):
        end(processes)
        for reader in readers:
            reader.join()
        told = "\n".join(out + err for out, err in outputs)
        raise TimeoutError(f"not all ranks ended within {seconds:g} s:\n{told}")
    return [
        subprocess.CompletedProcess(process.args, process.returncode, *output)
        for process, output in zip(processes, outputs)
    ]


def measure(nodes: Lab, arguments: Sequence[str], path: Path, meeting: Meeting = "static") -> dict[str, object]:
    """The JSON document of a run in which every rank ended well."""
    done = finish(start_probe(nodes, [*arguments, "-J", path], meeting), seconds=120)
    assert [rank.returncode for rank in done] == [0] * nodes.count, "\n".join(rank.stderr for rank in done)
    found: dict[str, object] = json.loads(path.read_text())
    return found


def start_python(nodes: Lab, node: int, program: str) -> subprocess.Popen[str]:
    """A Python program on a node; one that says "listens" has said so when this returns."""
    process = nodes.start(
        node, [sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    if "print('listens'" in program:
        assert process.stdout is not None
        assert process.stdout.readline() == "listens\n"
    return process


def output(nodes: Lab, node: int, program: str) -> str:
    """What a Python program prints on a node."""
    (done,) = finish([start_python(nodes, node, program)], seconds=30)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def netlab_environment() -> dict[str, str]:
    """With it, scripts/netlab runs by this Python."""
    return {**os.environ, "ROOFPROBE_PYTHON": sys.executable}


def netlab(
    *words: str, name: str, before: tuple[str, ...] = (), **environment: str
) -> subprocess.CompletedProcess[str]:
    """``scripts/netlab WORDS`` for the lab of this name, run by `before`."""
    action, *rest = words
    return subprocess.run(
        [*before, str(NETLAB), action, "--lab", name, *rest],
        env={**netlab_environment(), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def left_of(name: str) -> list[str]:
    """Namespaces and processes of a lab: what must be gone when it is."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    namespaces = [line for line in listed.splitlines() if f"-{name}-" in line]
    commands = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    return namespaces + [command for command in commands if f"-{name}-" in command or f"holder {name}" in command]
