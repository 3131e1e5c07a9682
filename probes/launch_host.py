"""One host of `roofprobe launch`: the connection to its agent, and its output line by line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
import os
import select
import shlex
import socket
import subprocess
import sys
from threading import Thread
from time import monotonic, time
from typing import IO, TypeVar

import msgspec
import psutil

from roofprobe.errors import RoofprobeError
from roofprobe.probes.launch_agent import GRACE_SECONDS
from roofprobe.probes.launch_protocol import Facts, FromLauncher, Ping, Pong, Start, line

AGENT = "roofprobe.probes.launch_agent"
PINGS = 3

MessageT = TypeVar("MessageT", Facts, Pong)


class Host:
    """A host by the name that ssh knows, its agent started. Every wait has the deadline given at the start."""

    def __init__(self, name: str, ssh: Sequence[str], python: str, timeout_seconds: float) -> None:
        self.name = name
        self._deadline = monotonic() + timeout_seconds
        self._timeout_seconds = timeout_seconds
        agent = [python, "-m", AGENT]
        # ssh gives its words to a shell on the other side.
        command = agent if is_here(name) else [*ssh, name, shlex.join(agent)]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                # Ctrl-C reaches the launcher alone, which ends the hosts in order.
                start_new_session=True,
            )
        except OSError as error:
            raise RoofprobeError(f"can't start {command[0]}: {error.strerror}") from None
        self._readers: list[Thread] = []

    def facts(self) -> Facts:
        """Raises RoofprobeError naming the host where the agent does not answer in time."""
        return self._receive(Facts)

    def clock(self) -> tuple[float, float]:
        """(seconds that its clock is ahead of this host's, uncertainty): the best of a few exchanges."""
        exchanges = []
        for _ in range(PINGS):
            sent = time()
            self._send(Ping())
            theirs = self._receive(Pong).time_seconds
            received = time()
            exchanges.append(((received - sent) / 2, theirs - (sent + received) / 2))
        half_trip, ahead = min(exchanges)
        return ahead, half_trip

    def start(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        on_line: Callable[[str], None],
        on_error_line: Callable[[str], None],
    ) -> None:
        """Starts torchrun there. The callbacks get its lines on other threads."""
        self._send(Start(arguments=tuple(arguments), environment=dict(environment)))
        for stream, callback in ((self._process.stdout, on_line), (self._process.stderr, on_error_line)):
            assert stream is not None
            self._readers.append(Thread(target=_read, args=(stream, callback), daemon=True))
            self._readers[-1].start()

    def poll(self) -> int | None:
        """The exit status, None while it runs. ssh gives 255 for a connection that was lost."""
        return self._process.poll()

    def end(self) -> None:
        """Closes the connection, upon which the agent ends torchrun; returns when that is done or overdue."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE_SECONDS + 5)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        for reader in self._readers:
            reader.join(1.0)

    def _send(self, message: FromLauncher) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # whoever waits for the answer says what happened
            self._process.stdin.write(line(message))
            self._process.stdin.flush()

    def _receive(self, kind: type[MessageT]) -> MessageT:
        assert self._process.stdout is not None
        words = b""
        while True:
            left = self._deadline - monotonic()
            readable = left > 0 and select.select([self._process.stdout], [], [], left)[0]
            if not readable:
                raise RoofprobeError(f"{self.name} did not answer within {self._timeout_seconds:g} s{self._advice()}")
            got = os.read(self._process.stdout.fileno(), 1 << 16)
            if not got:
                raise RoofprobeError(f"{self.name}: {self._last_words()}{self._advice()}")
            *lines, words = (words + got).split(b"\n")
            for text in lines:
                # What is no message was printed by the start-up files of a shell.
                with suppress(msgspec.MsgspecError):
                    return msgspec.json.decode(text, type=kind)

    def _last_words(self) -> str:
        assert self._process.stderr is not None
        self.end()
        os.set_blocking(self._process.stderr.fileno(), False)
        said = (self._process.stderr.read() or b"").decode(errors="replace").strip().splitlines()
        return said[-1] if said else f"ended with status {self._process.returncode}"

    def _advice(self) -> str:
        return f"; does `ssh {self.name} true` work without a password, and is roofprobe at the same path there?"


def is_here(name: str) -> bool:
    """Whether `name` is this host, which needs no ssh: ``localhost``, its own name, or one of its addresses."""
    if name in ("localhost", socket.gethostname()):
        return True
    own = {entry.address for entries in psutil.net_if_addrs().values() for entry in entries}
    return name in own


def _read(stream: IO[bytes], callback: Callable[[str], None]) -> None:
    with stream:
        for words in stream:
            callback(words.decode(errors="replace").rstrip("\n"))


def default_python() -> str:
    """This interpreter's path, links kept: .venv/bin/python is what the other hosts have too."""
    return sys.executable
