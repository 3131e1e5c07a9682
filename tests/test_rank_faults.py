"""Ranks that die, never come or are told to end: no other outlives them, and what was measured stays readable."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import json
from pathlib import Path
import re
import signal
import subprocess
import sys
import time

from collective_ranks import PROBES, QUICK, environment, free_port, probe, ranks_by_hand
import psutil
import pytest

pytest.importorskip("torch.distributed")

DIE_AT_1_KIB = """
    import dataclasses, os, signal
    from roofprobe.collectives.all_reduce import ALL_REDUCE
    from roofprobe.probes import allreduce

    def operation(send, receive, call):
        if call.rank == 1 and receive.numel() == 256:
            os.kill(os.getpid(), signal.SIGKILL)
        return ALL_REDUCE.operation(send, receive, call)

    dying = dataclasses.replace(ALL_REDUCE, operation=operation)
    allreduce.PROGRAM = dataclasses.replace(allreduce.PROGRAM, collective=dying)
"""


def test_a_rank_that_dies_ends_the_others_with_a_valid_json_of_what_was_measured(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    began = time.monotonic()
    (status, out, error), _ = ranks_by_hand(DIE_AT_1_KIB, tmp_path, "-b", "256", "-e", "4K", *QUICK, "-J", str(path))
    assert time.monotonic() - began < 60
    assert status == 1
    assert "Traceback" not in error
    assert re.search(r"^roofprobe allreduce: .*\brank 1 on \S+", error, re.MULTILINE)
    partial = json.loads(path.read_text())
    assert [r["size"] for r in partial["results"]] == [256, 512]
    assert partial["end_time"] is None
    assert out.splitlines()[-1].split()[0] == "512"


def test_a_rank_that_never_comes_is_named_within_the_deadline() -> None:
    began = time.monotonic()
    done = probe("-e", "8", "-T", "2", RANK="0", WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free_port()))
    assert done.returncode == 1
    assert "rank 1 of 2 did not join within 2 s" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert time.monotonic() - began < 30


@contextmanager
def long_run(folder: Path) -> Iterator[tuple[subprocess.Popen[str], list[psutil.Process]]]:
    """A probe of two ranks under way, with the JSON of its first size written; and the ranks."""
    path = folder / "out.json"
    running = subprocess.Popen(
        [sys.executable, PROBES / "allreduce.py", "--ranks", "2", "-b", "8", "-e", "16M", "-n", "300", "-J", path],
        env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while not path.exists():
            assert time.monotonic() < deadline
            assert running.poll() is None
            time.sleep(0.05)
        yield running, psutil.Process(running.pid).children()
    finally:
        running.kill()
        running.communicate()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_no_rank_outlives_its_launcher_and_the_json_stays_valid(how: signal.Signals, tmp_path: Path) -> None:
    with long_run(tmp_path) as (running, ranks):
        assert len(ranks) == 2
        running.send_signal(how)
        _, error = running.communicate(timeout=30)
        assert "Traceback" not in error
        assert running.returncode != 0
        _, alive = psutil.wait_procs(ranks, timeout=10)
        assert alive == []
    partial = json.loads((tmp_path / "out.json").read_text())
    assert partial["results"][0]["size"] == 8
    assert partial["end_time"] is None


def test_a_killed_rank_is_named_by_the_launcher(tmp_path: Path) -> None:
    with long_run(tmp_path) as (running, ranks):
        victim = next(r for r in ranks if r.environ()["RANK"] == "1")
        victim.kill()
        _, error = running.communicate(timeout=30)
        assert running.returncode == 1
        assert f"rank 1 (pid {victim.pid}) was ended by SIGKILL" in error
