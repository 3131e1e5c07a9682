"""A part's cases in several processes: kernels compile side by side, and a case that crashes or hangs costs itself.

An illegal address ends every later CUDA call of its process, so a worker that saw one ends too, and another takes what
is left. Standard library only: the supervisor never touches the GPU.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
import json
import signal
import subprocess
import tempfile
from threading import Lock, Thread, Timer
import time
from typing import Any

from gpu_checks.lines import say

CASE_SHARE = 0.5
"""Of the part's time: a case without an answer for so long has hung."""


class Pool:
    """`command` starts a worker: it prints its cases, then for each name on its stdin a result and a line ``ready``."""

    def __init__(self, command: Sequence[str], seconds: float, only: str) -> None:
        self._command = command
        self._only = only
        self._case_seconds = CASE_SHARE * seconds
        self._end = time.monotonic() + seconds
        self._lock = Lock()
        self._todo: deque[str] | None = None
        self._workers: list[Worker] = []
        self._closed = False
        self.problems: list[str] = []
        """Why workers could not start."""
        self.left: list[str] = []
        """Cases that there was no time for, or no worker."""

    @property
    def started(self) -> bool:
        """Whether any worker did."""
        return self._todo is not None

    def run(self, workers: int) -> None:
        """Prints a line for every case; what got none is in `left`."""
        threads = [Thread(target=self._serve, daemon=True) for _ in range(workers)]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
        finally:
            self._closed = True
            for worker in self._workers:
                worker.process.kill()
        self.left += self._todo or ()

    def _serve(self) -> None:
        while not self._closed and self._left_seconds() > 0:
            worker = Worker(self._command)
            self._workers.append(worker)
            names = worker.cases(self._left_seconds())
            if names is None:
                self.problems.append(worker.ending())
                return
            if not self._answers(worker, names):
                return

    def _answers(self, worker: Worker, names: list[str]) -> bool:
        """Has the worker take cases until none is left (False), or until it dies (True)."""
        while (name := self._next(names)) is not None:
            limit = min(self._case_seconds, self._left_seconds())
            answer = worker.answer(name, limit)
            if answer is not None:
                with self._lock:
                    print(answer, end="", flush=True)
                if worker.ready(limit):
                    continue
                return True
            if self._closed or (worker.stopped and limit < self._case_seconds):
                self.left.append(name)
            else:
                why = f"no answer within {limit:.0f} s: hung" if worker.stopped else f"died: {worker.ending()}"
                with self._lock:
                    say(name, "failed", f"the case's process: {why}")
            return True
        worker.process.kill()
        return False

    def _next(self, names: list[str]) -> str | None:
        with self._lock:
            if self._todo is None:
                self._todo = deque(name for name in names if self._only in name)
            return self._todo.popleft() if self._todo and self._left_seconds() > 0 else None

    def _left_seconds(self) -> float:
        return self._end - time.monotonic()


class Worker:
    """One process, which is killed where it does not answer in time."""

    def __init__(self, command: Sequence[str]) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - goes with the worker
        self.stopped = False
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True
        )

    def cases(self, seconds: float) -> list[str] | None:
        """The names of its cases, or None where it could not start."""
        line = self._line("cases", None, seconds)
        return None if line is None else list(json.loads(line)["cases"])

    def answer(self, name: str, seconds: float) -> str | None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(f"{name}\n")
            self.process.stdin.flush()
        except OSError:
            return None
        return self._line("case", name, seconds)

    def ready(self, seconds: float) -> bool:
        """Whether it can take another case: after an illegal address it can't, which is that case's doing."""
        return self._line("ready", True, seconds) is not None

    def ending(self) -> str:
        """How it ended, and the last line that it said."""
        status = self.process.wait()
        self._errors.seek(0, 2)
        self._errors.seek(max(0, self._errors.tell() - 4096))
        told = self._errors.read().decode(errors="replace").strip().splitlines()[-1:]
        how = signal.Signals(-status).name if status < 0 else f"status {status}"
        return ": ".join([how, *told])[:300]

    def _line(self, key: str, value: Any, seconds: float) -> str | None:
        """The next line that is an object with that key (and value); a library's own chatter is passed over."""
        timer = Timer(max(0.0, seconds), self._stop)
        timer.start()
        try:
            assert self.process.stdout is not None
            for line in self.process.stdout:
                try:
                    found = json.loads(line)
                except ValueError:
                    continue
                if isinstance(found, dict) and key in found and value in (None, found[key]):
                    return line
            return None
        finally:
            timer.cancel()

    def _stop(self) -> None:
        self.stopped = True
        self.process.kill()
