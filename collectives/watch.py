"""Never a hang: a thread on each rank that knows how the others are, and ends the process when the work has stopped.

The main thread waits in C++, where no exception or signal handler of Python's runs, and on a GPU a collective whose
peer has gone never returns at all. So all of it is done here: signs of life go out and come in once a second over the
mesh, signals are read from a pipe, and when a rank dies, falls silent, or makes no progress for longer than the
deadline, the ranks agree on who is to blame (verdict.py), say so, and end with os._exit: leaving a process group waits
for peers that may be gone. A guardian process does the same for a rank that can't run even this thread.

The main thread pays nothing while it times: it names a phase before and after, and how many operations it has begun
is counted by torch itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
import os
from select import select
from selectors import EVENT_READ, DefaultSelector
import signal
import socket
from threading import Event, Lock, Thread, get_ident
import time
from time import monotonic
from typing import NoReturn

from roofprobe.collectives.faults import Beat, Bye, Certainty, Fault, Standing
from roofprobe.collectives.guardian import start_guardian
from roofprobe.collectives.mesh import Line
from roofprobe.collectives.results import RankInfo
from roofprobe.collectives.verdict import Trouble, judge
from roofprobe.errors import FAILED

SETTLE_SECONDS = 0.3
"""From the first sign of trouble to a verdict, and again to the end: other ranks may know better."""
SLACK_SECONDS = 1.0
"""Beyond the deadline, so that gloo's own error, which says more, comes first."""
GUARDIAN_SECONDS = 5.0
"""Beyond the deadline, for a rank that can't end by itself."""
JOINING = "joining"


class Watch:
    """One rank's watch over itself and the others. Made on the main thread; there `enter`, `failed` and `close`."""

    def __init__(self, name: str, rank: int, timeout_seconds: float, speaks_for_all: bool) -> None:
        """Starts watching; `timeout_seconds` bounds joining, and then every single operation.

        `speaks_for_all`: the ranks share one stderr, on which one line is enough. From now on SIGTERM and SIGINT
        end the process through here.
        """
        self.operations = 0
        """To be raised where operations begin that torch does not count: each launch of a CUDA graph."""
        self.progress: Callable[[], int] | None = None
        """What the device has done of the work that it was given; asked once a second, while it is set."""
        self.on_fault: Callable[[Fault], None] = lambda _: None
        """Keeps what was measured, and why it ended; called on the watch's own thread, once, before the end."""
        self._name = name
        self._rank = rank
        self._where = f"rank {rank} on {socket.gethostname()}"
        self._timeout = timeout_seconds
        self._beat_seconds = min(1.0, timeout_seconds / 4)
        self._speaks_for_all = speaks_for_all
        self._phase = (0, JOINING, False, 0)
        self._sequence: Callable[[], int] = int
        self._complaint = "did not begin"
        self._standings: list[Standing] = []
        self._lines: Mapping[int, Line] = {}
        self._told: list[Fault] = []
        self._error: str | None = None
        self._signal: str | None = None
        self._closing = False
        self._began = monotonic()
        self._closed = Event()
        self._lock = Lock()
        self._main_clock = time.pthread_getcpuclockid(get_ident())
        self._guardian = start_guardian(timeout_seconds + GUARDIAN_SECONDS, f"{name}: {self._where}")
        self._wake, self._woken = socket.socketpair()
        self._wake.setblocking(False)
        self._woken.setblocking(False)
        self._selector = DefaultSelector()
        self._selector.register(self._woken, EVENT_READ)
        # The C handler writes the signal's number to the socket at once, whatever the main thread is doing.
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _do_nothing)
        Thread(target=self._run, name="roofprobe watch", daemon=True).start()

    # The main thread's side.

    def enter(self, phase: str, alone: bool = False) -> None:
        """Names what this rank does from now on; `alone` where that waits for no other, and has no deadline."""
        self._phase = (self._phase[0] + 1, phase, alone, self._sequence())

    def complain(self, what: str) -> None:
        """While joining: what to say if it takes too long from here, before `` within 60 s``."""
        self._complaint = what

    def attach(self, ranks: tuple[RankInfo, ...], lines: Mapping[int, Line]) -> None:
        """From now on the others are watched."""
        now = monotonic()
        with self._lock:
            self._standings = [Standing(info, now, now, self._beat()) for info in ranks]
            self._lines = lines
            for rank, line in lines.items():
                self._selector.register(line.socket, EVENT_READ, rank)
        self._nudge()

    def count(self, sequence: Callable[[], int]) -> None:
        """From now on `sequence` tells how many operations the process group has begun."""
        self._sequence = sequence

    def failed(self, error: str) -> NoReturn:
        """Ends the process with the reason why an operation failed on this rank, which may lie with another."""
        self._error = error
        self._nudge()
        while True:
            time.sleep(1)

    def close(self) -> None:
        """Takes leave of the others; from here on nothing is watched any more."""
        self._closing = True
        self._nudge()
        self._closed.wait()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)

    def _nudge(self) -> None:
        with suppress(BlockingIOError):
            self._wake.send(b"\0")

    # The watch's own thread.

    def _run(self) -> None:
        try:
            self._watch()
        except BaseException as error:  # noqa: BLE001 - whatever it is
            # Unwatched, the rank could hang.
            _say(f"{self._name}: {self._where}: the watch failed in {self._phase[1]}: {type(error).__name__}: {error}")
            os._exit(FAILED)

    def _watch(self) -> None:
        trouble_since = last_beat = None
        last_turn = monotonic()
        while True:
            ready = self._selector.select(SETTLE_SECONDS / 3 if trouble_since else self._beat_seconds)
            now = monotonic()
            with self._lock:
                if now - last_turn > 2 * self._beat_seconds + 1:
                    # This process did not run itself: nobody's silence in that time means anything.
                    for standing in self._standings:
                        standing.heard = now
                last_turn = now
                for key, _ in ready:
                    self._read_wake() if key.data is None else self._read_line(key.data, now)
                if last_beat is None or now - last_beat >= 0.9 * self._beat_seconds:
                    last_beat = now
                    self._send_beat(now)
                if self._closing:
                    self._leave()
                    return
                if trouble_since is None and self._is_in_trouble(now):
                    trouble_since = now
            if trouble_since is not None and now - trouble_since >= SETTLE_SECONDS:
                self._end(now)

    def _beat(self) -> Beat:
        number, phase, alone, base = self._phase
        done = self.operations + self._sequence() - base
        progress = self.progress
        if progress is not None:
            with suppress(RuntimeError):  # a GPU's error reaches the main thread as well, which says it
                done += progress()
        return Beat((number << 40) + done, phase, alone, time.clock_gettime(self._main_clock))

    def _send_beat(self, now: float) -> None:
        beat = self._beat()
        with suppress(OSError):
            self._guardian.raw.write(beat.phase.encode() + b"\n")  # type: ignore[attr-defined]
        for line in self._lines.values():
            line.send(beat)
        if self._standings:
            self._standings[self._rank].hear(beat, now)

    def _read_wake(self) -> None:
        with suppress(BlockingIOError):
            for number in self._woken.recv(64):
                if number in (signal.SIGTERM, signal.SIGINT):
                    self._signal = signal.Signals(number).name

    def _read_line(self, rank: int, now: float) -> None:
        standing, line = self._standings[rank], self._lines[rank]
        messages, is_open = line.receive()
        for message in messages:
            if isinstance(message, Beat):
                standing.hear(message, now)
            elif isinstance(message, Fault):
                standing.has_told = True
                self._told.append(message)
            else:
                standing.has_left = True
        if not is_open:
            self._selector.unregister(line.socket)
            standing.closed = now

    def _is_in_trouble(self, now: float) -> bool:
        if self._error is not None or self._signal is not None or self._told:
            return True
        if not self._standings:
            return now - self._began > self._timeout + SLACK_SECONDS
        me = self._standings[self._rank]
        if not me.beat.alone and now - me.moved > self._timeout + SLACK_SECONDS:
            return True
        present = [s for s in self._standings if s is not me and not s.has_left]
        return any(s.closed is not None or now - s.heard > self._timeout for s in present)

    def _end(self, now: float) -> NoReturn:
        fault = self._verdict(now)
        for line in self._lines.values():
            line.send(fault)
        # Others have come to their verdicts at the same time: the surest is everybody's.
        while monotonic() < now + SETTLE_SECONDS:
            for key, _ in self._selector.select(SETTLE_SECONDS / 3):
                if key.data is not None:
                    self._read_line(key.data, monotonic())
        fault = max([fault, *self._told], key=lambda f: (f.certainty, -f.reporter))
        with suppress(Exception):
            self.on_fault(fault)
        if self._speaks(fault):
            _say(f"{self._name}: {fault.text}")
        os._exit(FAILED)

    def _verdict(self, now: float) -> Fault:
        if not self._standings:
            reason = self._error
            if self._signal is not None:
                reason = f"{self._where} was told to end by {self._signal} while {JOINING}"
            elif reason is None:
                reason = f"{self._where}, {JOINING}, {self._complaint} within {self._timeout:g} s; was it started?"
            return Fault(Certainty.FAILED, None, self._rank, reason)
        self._standings[self._rank].hear(self._beat(), now)
        for rank, line in self._lines.items():
            self._standings[rank].is_unanswered = line.unacknowledged() > 0
        found = judge(
            self._standings,
            self._rank,
            Trouble(now, self._beat_seconds, self._timeout, self._error, self._signal, bool(self._told)),
        )
        known = [*self._told] if found is None else [found, *self._told]
        return max(known, key=lambda f: f.certainty)

    def _speaks(self, fault: Fault) -> bool:
        if not self._speaks_for_all:
            return True
        alive = [s.info.rank for s in self._standings if s.closed is None or s.has_told]
        return self._rank == min((r for r in alive if r != fault.culprit), default=self._rank)

    def _leave(self) -> None:
        for line in self._lines.values():
            line.send(Bye())
        self._guardian.close()
        self._closed.set()


def _do_nothing(*_: object) -> None:
    """A handler of Python's has to stand for the C handler to tell of the signal."""


def _say(line: str) -> None:
    """Not by print: the main thread may hold the stream, and a reader that has stopped must not stop this."""
    if select([], [2], [], SETTLE_SECONDS)[1]:
        with suppress(OSError):
            os.write(2, f"{line}\n".encode())
