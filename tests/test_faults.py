"""Never a hang: whatever becomes of a rank, every rank ends in time, with status 1 and the culprit's name and phase."""

from __future__ import annotations

from collections.abc import Callable
import json
import os
from pathlib import Path
import re
import signal
import subprocess
import sys
import textwrap
import time

from fault_jobs import GRACE_SECONDS, HOST, LAUNCHER_VARIABLES, LONG, PROBE, Ended, job
import psutil
import pytest

pytest.importorskip("torch.distributed")

PROMPT = 60
"""The deadline where none of it may be used: such a fault is seen at once."""
SHORT = 5
"""The deadline where all of it is used."""
IN_4_MIB = "in PHASE of all_reduce, 4.00 MiB out of place"


def of(rank: int | str) -> str:
    return f"rank {rank} on {HOST} (127.0.0.1)"


def plain(line: str) -> str:
    """Without what no test can know: seconds, and on a busy machine which phase of a size a signal met."""
    line = re.sub(r"\d+ s ago", "N s ago", line)
    return re.sub(
        "in (filling the buffers|the warm-up|the timed loop) of all_reduce, 4", "in PHASE of all_reduce, 4", line
    )


def assert_told(ended: dict[int, Ended], survivors: list[int], words: str) -> None:
    """Each survivor ended with status 1 and said one line, with these words in it."""
    for rank in survivors:
        assert ended[rank].status == 1
        assert len(ended[rank].errors) == 1, ended[rank].errors
        assert words in plain(ended[rank].errors[0])


@pytest.mark.parametrize(
    ("victim", "how", "words"),
    [
        (2, signal.SIGKILL, f"{of(2)} died {IN_4_MIB}"),
        (0, signal.SIGKILL, f"{of(0)} died {IN_4_MIB}"),
        (0, signal.SIGTERM, f"{of(0)} was told to end by SIGTERM {IN_4_MIB}"),
        (1, signal.SIGSTOP, f"{of(1)} stopped answering N s ago {IN_4_MIB}: its host still does"),
    ],
    ids=["killed", "rank 0 killed, and the store with it", "SIGTERM", "stopped"],
)
def test_a_signal_in_the_timed_loop(victim: int, how: signal.Signals, words: str, tmp_path: Path) -> None:
    with job(tmp_path, 3, LONG, deadline=SHORT if how == signal.SIGSTOP else PROMPT) as running:
        running.wait_for_timed_loop()
        running.fault()
        running.processes[victim].send_signal(how)
        ended = running.wait()
        if how != signal.SIGSTOP:
            assert max(end.seconds for end in ended.values()) < GRACE_SECONDS
        assert_told(ended, [rank for rank in range(3) if rank != victim or how == signal.SIGTERM], words)
        assert ended[victim].status == (1 if how == signal.SIGTERM else -signal.SIGKILL)
        document = running.document()
        assert running.sizes() == [8]
        assert document["end_time"] is None
        assert isinstance(document["errors"], list) and len(document["errors"]) == 1
        assert words in plain(document["errors"][0])
        assert not [name for name in os.listdir(tmp_path) if name.startswith(".out.json")]


def program(folder: Path, body: str) -> Path:
    """The probe, whose all_reduce of 64 bytes on rank 1 does something else instead."""
    path = folder / "rank.py"
    path.write_text(
        textwrap.dedent(f"""
        import os, time
        import torch.distributed as dist
        true_all_reduce = dist.all_reduce

        def all_reduce(tensor, **options):
            if os.environ["RANK"] == "1" and tensor.numel() == 16:
                {body}
            return true_all_reduce(tensor, **options)

        dist.all_reduce = all_reduce
        from roofprobe.probes import allreduce
        raise SystemExit(allreduce.main())
        """)
    )
    return path


@pytest.mark.parametrize(
    ("body", "others", "own"),
    [
        ("while True: pass", f"{of(1)} is late: no progress for", None),
        ("os._exit(0)", f"{of(1)} died in the warm-up of all_reduce, 64 B out of place", 0),
        (
            "raise MemoryError('no room')",
            f"{of(1)} failed in the warm-up of all_reduce, 64 B out of place: no room",
            None,
        ),
    ],
    ids=["computes for ever", "ends without a word, with status 0", "raises"],
)
def test_one_rank_does_something_else(body: str, others: str, own: int | None, tmp_path: Path) -> None:
    flags = ["-b", "32", "-e", "64", "-n", "5"]
    deadline = SHORT if "late" in others else PROMPT
    with job(tmp_path, 3, flags, deadline=deadline, program=program(tmp_path, body)) as running:
        running.wait_for_output()
        running.fault()
        ended = running.wait()
        assert_told(ended, [0, 2] if own is not None else [0, 1, 2], others)
        if "late" in others:
            assert re.search(r"its main thread took \d+% of a CPU", ended[0].errors[0])
        if own is not None:
            assert ended[1].status == own
        assert running.sizes() == [32]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["-b", "16"], f"{of(1)} was called with min_bytes 16, {of(0)} with min_bytes 8 (seen in preflight)"),
        (["-d", "half"], f"{of(1)} was called with dtype half, {of(0)} with dtype float (seen in preflight)"),
    ],
    ids=["size", "dtype"],
)
def test_two_ranks_called_differently_are_told_before_any_data_moves(
    flags: list[str], words: str, tmp_path: Path
) -> None:
    usual = ["-b", "8", "-e", "1K", "-n", "5"]
    with job(tmp_path, 2, usual, deadline=PROMPT, flags_of={1: [*usual, *flags]}) as running:
        assert_told(running.wait(), [0, 1], words)
        assert running.sizes() == []


@pytest.mark.parametrize(
    ("missing", "words"), [(1, "rank 1 of 3 did not join within 3 s"), (0, "can't reach rank 0 at")]
)
def test_a_rank_that_never_joins(missing: int, words: str, tmp_path: Path) -> None:
    present = [rank for rank in range(3) if rank != missing]
    with job(tmp_path, 3, LONG, deadline=3, present=present) as running:
        ended = running.wait()
        assert_told(ended, present, words)
        assert all("joining" in ended[rank].errors[0] for rank in present)
        if missing:
            assert running.document()["results"] == []
            assert words in str(running.document()["errors"])


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in LAUNCHER_VARIABLES}
    return {**kept, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}


TORCHRUN = ["-m", "torch.distributed.run", "--nproc-per-node", "3", "--rdzv-backend", "c10d",
            "--rdzv-endpoint", "127.0.0.1:0"]  # fmt: skip


@pytest.mark.parametrize(
    ("launcher", "how", "words"),
    [
        (TORCHRUN, signal.SIGKILL, f"roofprobe allreduce: {of(1)} died {IN_4_MIB}"),
        (TORCHRUN, None, f"roofprobe allreduce: {of('?')} was told to end by SIGTERM {IN_4_MIB}"),
        ([], signal.SIGSTOP, f"roofprobe allreduce: {of(1)} stopped answering N s ago {IN_4_MIB}"),
    ],
    ids=["torchrun, which tells the survivors to end", "torchrun itself is told to end", "roofprobe allreduce --ranks"],
)
def test_a_job_under_a_launcher(launcher: list[str], how: signal.Signals | None, words: str, tmp_path: Path) -> None:
    """Rank 1, or for None the launcher, gets a signal; all processes are gone in time."""
    path = tmp_path / "out.json"
    own = [] if launcher else ["--ranks", "3"]
    running = subprocess.Popen(
        [sys.executable, *launcher, PROBE, *LONG, "-T", str(SHORT), *own, "-J", path],
        env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        wait_until(path.exists)
        time.sleep(1.0)
        started = psutil.Process(running.pid).children(recursive=True)
        began = time.monotonic()
        if how is None:
            running.terminate()
        else:
            next(p for p in started if is_rank(p, 1)).send_signal(how)
        _, error = running.communicate(timeout=SHORT + GRACE_SECONDS)
        assert psutil.wait_procs(started, timeout=began + SHORT + GRACE_SECONDS - time.monotonic())[1] == []
    finally:
        running.kill()
        running.communicate()
    assert running.returncode != 0
    if how is not None:
        assert running.returncode == 1
    said = plain(error if how is not None else re.sub("rank [0-2]", "rank ?", error))
    assert words in said
    document = json.loads(path.read_text())
    assert [result["size"] for result in document["results"]] == [8]
    assert len(document["errors"]) == 1
    if not launcher:
        assert len(re.findall("stopped answering", error)) == 1  # one stderr, one line


def is_rank(process: psutil.Process, rank: int) -> bool:
    """Not its guardian, which inherits the environment."""
    is_guardian = any("guardian" in word for word in process.cmdline())
    return process.environ().get("RANK") == str(rank) and not is_guardian


def wait_until(is_true: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.02)
