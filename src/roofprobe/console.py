"""What people see while a probe runs: a progress bar on a terminal, plain lines everywhere else.

Result rows go to `out` as each is measured; progress goes to stderr, so that a pipe holds results alone. With
``--json`` the rows go to stderr too, and stdout holds the one document.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import sys
from typing import TYPE_CHECKING, TextIO

from roofprobe.arguments import size_text
from roofprobe.measurement import Measurement, Skipped

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

HEADER = (
    f"{'side':<7}{'op':<13}{'format':<9}{'shape':<22}{'ms':>10}{'MB':>10}{'GB/s':>9}  {'95 % interval':<18}"
    f"{'% nominal':>10}{'% measured':>12}  check"
)


class Console:
    """Lines and progress for one command."""

    def __init__(self, out: TextIO | None = None) -> None:
        self.out = sys.stdout if out is None else out
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._done = 0
        self._total = 0

    def line(self, text: str = "") -> None:
        """One line for people, above the progress bar."""
        if self._progress is not None:
            self._progress.stop()
        print(text, file=self.out, flush=True)
        if self._progress is not None:
            self._progress.start()

    @contextmanager
    def progress(self, steps: int) -> Iterator[None]:
        """Shows how far a command of `steps` steps has come."""
        self._done, self._total = 0, steps
        if not sys.stderr.isatty():
            yield
            return
        from rich.console import Console as RichConsole
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        # Twice a second: a refresh takes a CPU for a moment from what is being measured.
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=RichConsole(stderr=True),
            transient=True,
            refresh_per_second=2,
        )
        self._task = self._progress.add_task("starting", total=steps)
        try:
            with self._progress:
                yield
        finally:
            self._progress = None

    def step(self, name: str) -> None:
        """Says what is being measured now."""
        self._done += 1
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, description=name, completed=self._done - 1)
        elif self._total:
            print(f"[{self._done}/{self._total}] {name}", file=sys.stderr, flush=True)


def row(m: Measurement) -> str:
    """One measurement as a line under `HEADER`."""
    interval = "" if m.interval is None else f"[{m.interval[0]:.1f}, {m.interval[1]:.1f}]"
    nominal = "-" if m.nominal_fraction is None else f"{m.nominal_fraction:.1%}"
    if m.reference is None:
        measured = "ceiling"
    else:
        measured = "-" if m.ceiling_fraction is None else f"{m.ceiling_fraction:.1%}"
    check = "not checked" if m.wrong is None else ("ok" if m.wrong == 0 else f"{m.wrong} WRONG")
    if m.is_baseline:
        check = f"{m.backend}, {check}"
    if m.invalid is not None and not m.wrong:
        check = f"{check}; INVALID: {m.invalid}"
    if m.timing.contended:
        check = f"{check}; CONTENDED: {len(m.timing.rejected)} of {len(m.timing.seconds)} samples disturbed"
    return (
        f"{m.side:<7}{m.op:<13}{m.format:<9}{shape(m):<22}"
        f"{m.seconds * 1e3:>10.3f}{m.useful_bytes / 1e6:>10.1f}{m.gb_per_s:>9.1f}  "
        f"{interval:<18}{nominal:>10}{measured:>12}  {check}"
    )


def shape(m: Measurement) -> str:
    """``28672x8192 b1`` for a kernel, with experts ``5760x2880 b1 4/128``; ``1.00 GiB an array`` for memory."""
    if m.k is None:
        return f"{size_text(4 * m.n)} an array"
    batch = "" if m.batch is None else f" b{m.batch}"
    return f"{m.n}x{m.k}{batch}" + ("" if m.experts is None else f" {m.top_k}/{m.experts}")


def skipped_line(skipped: Skipped) -> str:
    """One line for a case that can't run here."""
    return f"skipped {skipped.probe}: {skipped.case}: {skipped.reason}"
