"""Faults between real nodes, which have addresses and cables of their own: who is told by which rank, and when."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
import json
from pathlib import Path
import signal
import subprocess
import sys
import time

from fault_jobs import GRACE_SECONDS, LONG
from netlab_nodes import Lab
import psutil
import pytest
from real_nodes import finish, lab, start_probe

pytestmark = pytest.mark.netns

SHORT = 5
IN_4_MIB = "of all_reduce, 4.00 MiB"


@pytest.fixture(scope="module")
def three() -> Iterator[Lab]:
    with lab(3, rate="1gbit") as nodes:
        yield nodes


def until_4_mib(ranks: Sequence[subprocess.Popen[str]], path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline
        assert all(rank.poll() is None for rank in ranks)
        time.sleep(0.05)
    time.sleep(0.5)


def told(done: subprocess.CompletedProcess[str]) -> str:
    """The probe's own line among torchrun's."""
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("roofprobe allreduce: rank")]
    return line


FLAGS = [*LONG, "-T", str(SHORT), "--no-link-baseline"]


def test_a_pulled_cable_is_told_on_both_sides_of_it(three: Lab, tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    ranks = start_probe(three, [*FLAGS, "-J", path], "by hand")
    until_4_mib(ranks, path)
    three.link(3, up=False)
    try:
        done = finish(ranks, seconds=SHORT + GRACE_SECONDS)
    finally:
        three.link(3, up=True)
    assert [rank.returncode for rank in done] == [1, 1, 1]
    for survivor in done[:2]:
        assert "rank 2 on node3 (10.77.0.3) stopped answering" in told(survivor)
        assert "nothing comes back from its host" in told(survivor)
        assert IN_4_MIB in told(survivor)
    assert "rank 2 on node3 (10.77.0.3) is cut off" in told(done[2])
    document = json.loads(path.read_text())
    assert [result["size"] for result in document["results"]] == [8]
    assert told(done[0]).endswith(document["errors"][0])


def test_a_stopped_rank_ends_torchrun_on_every_node(three: Lab, tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    agents = start_probe(three, [*FLAGS, "-J", path])
    until_4_mib(agents, path)
    (victim,) = [
        process
        for process in psutil.Process(agents[1].pid).children(recursive=True)
        if "guardian" not in " ".join(process.cmdline())
    ]
    victim.send_signal(signal.SIGSTOP)
    done = finish(agents, seconds=SHORT + GRACE_SECONDS)
    assert [agent.returncode for agent in done] == [1, 1, 1]
    for survivor in (done[0], done[2]):
        assert "rank 1 on node2 (10.77.0.2) stopped answering" in told(survivor)
        assert "its host still does" in told(survivor)
    assert "rank 1 on node2 did not run for" in told(done[1])
    assert not victim.is_running()


@pytest.fixture(scope="module")
def four() -> Iterator[Lab]:
    with lab(4, rate="1gbit") as nodes:
        yield nodes


PAIRS = ["-b", "8", "-e", "8", "-n", "5", "--pairwise", "--no-link-baseline"]


A_TENTH_OF_ITS_SPEED = """
import os, signal, sys, time
while True:
    for how, seconds in ((signal.SIGSTOP, 0.045), (signal.SIGCONT, 0.005)):
        os.kill(int(sys.argv[1]), how)
        time.sleep(seconds)
"""


def slow_down_once_joining(nodes: Lab, node: int, rank: subprocess.Popen[str]) -> None:
    """From its first connection on: importing torch at that speed would take too long."""
    deadline = time.monotonic() + 60
    established = " 01 "  # a state in the kernel's list of connections
    while established not in Path(f"/proc/{rank.pid}/net/tcp").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    nodes.start(node, [sys.executable, "-c", A_TENTH_OF_ITS_SPEED, str(rank.pid)], stderr=subprocess.DEVNULL)


@pytest.mark.parametrize("what", ["slow link", "slow node"])
def test_pairs_locate_the_one_among_four(what: str, four: Lab, tmp_path: Path) -> None:
    """All-reduce over the four is as slow on every rank, and no rank sees why."""
    path = tmp_path / "out.json"
    if what == "slow link":
        four.shape(3, rate="100mbit")
    try:
        ranks = start_probe(four, [*PAIRS, "-J", path], "by hand")
        if what == "slow node":
            slow_down_once_joining(four, 2, ranks[1])
        done = finish(ranks, seconds=120)
    finally:
        four.shape(3, rate="1gbit")
    assert [rank.returncode for rank in done] == [0, 0, 0, 0], done[0].stderr
    findings = json.loads(path.read_text())["pair_findings"]
    if what == "slow link":
        (rate,) = [finding for finding in findings if "is slow with every other rank" in finding]
        assert rate.startswith("rank 2 on node3 (10.77.0.3)")
    else:
        (late,) = [finding for finding in findings if "is late to answer with every other rank" in finding]
        assert late.startswith("rank 1 on node2 (10.77.0.2)")
    assert f"# pairs: {findings[0]}" in done[0].stdout
