"""Runs perftest's ib_write_bw and ib_write_lat as one end of a link, and reads what they print.

A server waits for one client, then both run for as long; the client's figures are read. Its table is found by its
header's words, since columns and units moved: bandwidth in Gb/s by --report_gbits in every version, latency in
microseconds, one way (half of a round trip).

A process that does not end in time is killed. Nothing is read but numbers, and a table that is not as expected is an
error, never a guess.

Source: linux-rdma/perftest, src/perftest_parameters.{h,c}, at 4.5-0.20 and 26.04.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
import re
import shutil
import subprocess
from time import monotonic, sleep

from roofprobe.tree import Tree

BANDWIDTH, LATENCY = "ib_write_bw", "ib_write_lat"
SECONDS = 1
MESSAGE_BYTES = 1 << 20
"""Of the bandwidth test: large enough that one queue pair fills a 100 Gb/s half."""
LATENCY_BYTES = 8
LATENCY_ITERATIONS = 2000
TIMEOUT_SECONDS = 12.0
LISTEN_SECONDS = 4.0
_LISTENING = "0A"
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


class PerftestError(Exception):
    """A run that gave no figure; the message says why, in one line."""


@dataclass(frozen=True)
class End:
    """One end of one device's test."""

    device: str
    port: int
    gid_index: int | None
    """None on InfiniBand, which needs none."""
    tcp_port: int
    """Where the two ends find each other."""


def installed() -> bool:
    """Whether both tools can be run here."""
    return all(shutil.which(tool) is not None for tool in (BANDWIDTH, LATENCY))


def command(tool: str, end: End, server: str | None) -> list[str]:
    """The command line of the server, or, with `server` its address, of the client."""
    words = [tool, "-d", end.device, "-i", str(end.port), "-p", str(end.tcp_port), "-F"]
    if end.gid_index is not None:
        words += ["-x", str(end.gid_index)]
    if tool == BANDWIDTH:
        words += ["-s", str(MESSAGE_BYTES), "-D", str(SECONDS), "--report_gbits"]
    else:
        words += ["-s", str(LATENCY_BYTES), "-n", str(LATENCY_ITERATIONS)]
    return words if server is None else [*words, server]


class Running:
    """Processes that are over, one way or another, when the block ends."""

    def __init__(self, commands: Sequence[Sequence[str]]) -> None:
        self._commands = commands
        self._processes: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Running:
        try:
            for words in self._commands:
                self._processes.append(
                    subprocess.Popen(
                        words,
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.PIPE,
                        stderr=subprocess.STDOUT,
                        text=True,
                        errors="replace",
                    )
                )
        except OSError as error:
            self.__exit__()
            raise PerftestError(f"{self._commands[0][0]} can't be started: {error.strerror}") from None
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()

    def wait_listening(self, tree: Tree, ports: Sequence[int]) -> None:
        """Until every server listens: an older client gives up at once. Raises PerftestError if one ended instead."""
        deadline = monotonic() + LISTEN_SECONDS
        while not set(ports) <= listening_ports(tree):
            for process in self._processes:
                if process.poll() is not None:
                    raise PerftestError(_why(process, process.communicate()[0]))
            if monotonic() > deadline:
                raise PerftestError(f"{self._commands[0][0]} did not listen within {LISTEN_SECONDS:g} s")
            sleep(0.02)

    def outputs(self, deadline: float) -> list[str]:
        """What each printed, once all have ended well; `deadline` is on the monotonic clock. Raises PerftestError."""
        texts = []
        for process in self._processes:
            try:
                texts.append(process.communicate(timeout=max(0.0, deadline - monotonic()))[0])
            except subprocess.TimeoutExpired:
                raise PerftestError(f"{self._commands[0][0]} did not end within {TIMEOUT_SECONDS:g} s") from None
            if process.returncode:
                raise PerftestError(_why(process, texts[-1]))
        return texts


def listening_ports(tree: Tree) -> set[int]:
    """TCP ports on which anything of this network namespace listens."""
    found = set()
    for table in ("tcp", "tcp6"):
        for line in (tree.text(f"/proc/net/{table}") or "").splitlines()[1:]:
            fields = line.split()
            if len(fields) > 3 and fields[3] == _LISTENING:
                found.add(int(fields[1].rpartition(":")[2], 16))
    return found


def read_gbit_per_s(output: str) -> float:
    """The average of a bandwidth table in Gb/s. Raises PerftestError for a text without exactly one such row."""
    values = _row(output, ("#bytes", "#iterations", "BW peak[Gb/sec]", "BW average[Gb/sec]", "MsgRate[Mpps]"))
    rate = values[3]
    if not rate > 0:
        raise PerftestError(f"{BANDWIDTH} reports {rate:g} Gb/s")
    return rate


def read_half_round_trip_us(output: str) -> float:
    """The typical (median) latency in microseconds. Raises PerftestError for a text without exactly one such row."""
    return _row(output, ("#bytes", "#iterations", "t_min[usec]", "t_max[usec]", "t_typical[usec]"))[4]


def _row(output: str, titles: Sequence[str]) -> list[float]:
    """The numbers under a header that begins with `titles`."""
    lines = [" ".join(line.split()) for line in output.splitlines()]
    headers = [index for index, line in enumerate(lines) if line.startswith(" ".join(titles))]
    below = lines[headers[0] + 1].split() if len(headers) == 1 and headers[0] + 1 < len(lines) else []
    if len(below) < len(titles) or not all(_NUMBER.fullmatch(word) for word in below):
        raise PerftestError(f"its table is not understood: expected one row of numbers under '{' '.join(titles)}'")
    return [float(word) for word in below]


def _why(process: subprocess.Popen[str], output: str) -> str:
    said = [line.strip() for line in output.splitlines() if line.strip() and not line.startswith("---")]
    tool = process.args[0] if isinstance(process.args, list) else process.args
    return f"{tool!s} ended with status {process.returncode}: {said[-1] if said else 'it said nothing'}"
