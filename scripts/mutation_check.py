"""Plants known bugs in copies of this tree, one at a time: the tests that should catch each must fail.

First the unchanged copy has to pass every selection of tests that a bug names; then each worker plants a bug in its own
copy, runs that bug's selection and takes the bug out again. The working tree is only read. A bug that no test catches
survives: status 1. One whose text is not in the code exactly once is an error, so that the list can't rot: status 2.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
import os
from pathlib import Path
from queue import SimpleQueue
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("pyproject.toml", "README.md", "src", "kernels", "collectives", "probes", "tests", "scripts")
LEFTOVERS = shutil.ignore_patterns("__pycache__", "*.egg-info", ".*")
CAUGHT, SURVIVED, BROKEN = "caught", "SURVIVED", "ERROR"
TESTS_PASSED, TESTS_FAILED = 0, 1
TIMEOUT_SECONDS = 180


@dataclass(frozen=True)
class Mutant:
    """One planted bug: `old` stands in `file` exactly once and becomes `new`; `tests` must then fail."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    """pytest's arguments: files, node ids."""
    why: str
    """What the bug is, and where such bugs come from."""


@dataclass(frozen=True)
class Outcome:
    """What came of one mutant."""

    name: str
    verdict: str
    seconds: float
    detail: str = ""


def misfit(root: Path, mutant: Mutant) -> str | None:
    """Why `mutant` can't be planted in this tree, or None."""
    try:
        count = (root / mutant.file).read_text().count(mutant.old)
    except OSError as error:
        return f"{mutant.file}: {error.strerror}"
    return None if count == 1 else f"{mutant.file}: expected its text exactly once, found it {count} times"


def copy_tree(root: Path, to: Path) -> Path:
    """What the tests need of the tree, links as links."""
    to.mkdir()
    for name in COPIED:
        source = root / name
        if source.is_dir():
            shutil.copytree(source, to / name, symlinks=True, ignore=LEFTOVERS)
        elif source.exists():
            shutil.copy2(source, to / name)
    return to


def run_tests(tree: Path, tests: Sequence[str]) -> tuple[int | None, str]:
    """pytest's exit status over the copy's own code (None: it ran too long), and the last lines that it printed."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    environment = os.environ | threads | {"PYTHONPATH": str(tree / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-P", "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider", *tests]
    process = subprocess.Popen(
        command, cwd=tree, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        printed, _ = process.communicate(timeout=TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return None, f"ran longer than {TIMEOUT_SECONDS} s"
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    return process.returncode, "\n".join(printed.splitlines()[-12:])


def try_mutant(tree: Path, mutant: Mutant) -> Outcome:
    """Plants one bug in `tree`, runs its tests, and takes it out again."""
    start = time.perf_counter()
    path = tree / mutant.file
    original, times = path.read_text(), path.stat()
    path.write_text(original.replace(mutant.old, mutant.new))
    try:
        status, printed = run_tests(tree, mutant.tests)
    finally:
        path.write_text(original)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # numba's cache goes by the file's time
    crashed_or_hung = status is None or status < 0
    verdict = CAUGHT if crashed_or_hung else {TESTS_PASSED: SURVIVED, TESTS_FAILED: CAUGHT}.get(status, BROKEN)
    # a run that was ended for its length is caught, but on a busy machine that may be the machine's doing: say so
    detail = printed if verdict != CAUGHT or status is None else ""
    return Outcome(mutant.name, verdict, time.perf_counter() - start, detail)


def check(
    root: Path, mutants: Sequence[Mutant], jobs: int, on_outcome: Callable[[Outcome], None] = lambda _: None
) -> list[Outcome]:
    """Tries every mutant over copies of `root`, `jobs` at a time, handing each outcome on as it comes.

    Mutants that don't fit, and those of a selection that fails without any bug, are errors.
    """
    outcomes: list[Outcome] = []

    def report(outcome: Outcome) -> None:
        outcomes.append(outcome)
        on_outcome(outcome)

    misfits = {m.name: reason for m in mutants if (reason := misfit(root, m)) is not None}
    for name, reason in misfits.items():
        report(Outcome(name, BROKEN, 0, reason))
    fitting = [m for m in mutants if m.name not in misfits]
    with tempfile.TemporaryDirectory(prefix="roofprobe-mutants-") as folder:
        trees: SimpleQueue[Path] = SimpleQueue()
        for job in range(jobs):
            trees.put(copy_tree(root, Path(folder) / f"tree{job}"))

        def in_a_tree(work: Callable[[Path], Outcome]) -> Outcome:
            tree = trees.get()
            try:
                return work(tree)
            finally:
                trees.put(tree)

        with ThreadPoolExecutor(jobs) as pool:
            selections = list(dict.fromkeys(m.tests for m in fitting))
            healthy = list(pool.map(lambda tests: in_a_tree(lambda tree: _unchanged(tree, tests)), selections))
            sound = {tests for tests, found in zip(selections, healthy, strict=True) if found.verdict == CAUGHT}
            why = {tests: found.detail for tests, found in zip(selections, healthy, strict=True)}
            for m in fitting:
                if m.tests not in sound:
                    report(Outcome(m.name, BROKEN, 0, f"its tests fail without it: {why[m.tests]}"))
            runs = [pool.submit(in_a_tree, lambda tree, m=m: try_mutant(tree, m)) for m in fitting if m.tests in sound]
            try:
                for run in runs:
                    report(run.result())
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    return outcomes


def _unchanged(tree: Path, tests: Sequence[str]) -> Outcome:
    status, printed = run_tests(tree, tests)
    return Outcome(" ".join(tests), CAUGHT if status == TESTS_PASSED else BROKEN, 0, printed)


def exit_status(outcomes: Sequence[Outcome]) -> int:
    """2 where the list does not fit the code, else 1 where a bug survives, else 0."""
    verdicts = {outcome.verdict for outcome in outcomes}
    return 2 if BROKEN in verdicts else 1 if SURVIVED in verdicts else 0


def main() -> int:
    """Reads the list and tries it; returns the exit status."""
    sys.path.insert(0, str(ROOT / "tests"))
    sys.path.insert(0, str(Path(__file__).parent))
    from mutants import MUTANTS  # type: ignore[import-not-found,unused-ignore]

    parser = argparse.ArgumentParser("mutation_check", description="Plant known bugs; the tests must catch each.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="of the bugs to plant (default: all)")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="at a time (default: one a CPU)")
    parser.add_argument("--list", action="store_true", help="list the bugs and plant none")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - {m.name for m in MUTANTS}
    if unknown or arguments.jobs < 1:
        parser.error(f"no such bug: {', '.join(sorted(unknown))}" if unknown else "--jobs: expected at least 1")
    chosen = [m for m in MUTANTS if not arguments.names or m.name in arguments.names]
    if arguments.list:
        for m in chosen:
            print(f"{m.name:<32}{m.file:<32}{m.why}")
        return 0

    def show(outcome: Outcome) -> None:
        print(f"{outcome.verdict:<9}{outcome.name:<36}{outcome.seconds:6.1f} s", flush=True)
        for line in outcome.detail.splitlines():
            print(f"         | {line}", flush=True)

    start = time.perf_counter()
    try:
        outcomes = check(ROOT, chosen, arguments.jobs, show)
    except KeyboardInterrupt:
        print("mutation_check: interrupted", file=sys.stderr)
        return 2
    caught = sum(outcome.verdict == CAUGHT for outcome in outcomes)
    print(f"{caught} of {len(outcomes)} planted bugs were caught, in {time.perf_counter() - start:.0f} s")
    return exit_status(outcomes)


if __name__ == "__main__":
    raise SystemExit(main())
