"""NCCL logs in which nothing is wrong raise nothing, in old and new wording and however a launcher mangled them."""

from __future__ import annotations

from pathlib import Path
import random

from doctor_logs import faults, read_case
import nccl_logs as logs
from nccl_logs import BOTH_HALVES, MERGING, MIDDLE, NEW, OLD, RELEASES, Rank
import pytest

FOUR = (*BOTH_HALVES, "rocep1s0f1", "roceP2p1s0f1")


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(logs.single, id="a unit alone"),
        pytest.param(lambda release: logs.cluster(2, release), id="a pair"),
        pytest.param(lambda release: logs.cluster(3, release, FOUR), id="a ring of three"),
        pytest.param(lambda release: logs.cluster(4, release), id="four at a switch"),
        pytest.param(logs.h100, id="InfiniBand"),
        pytest.param(
            lambda release: [
                line for r in (0, 1) for line in logs.within_a_host(Rank(r, host="pc"), release, "P2P/CUMEM")
            ],
            id="two GPUs of a host",
        ),
    ],
)
def test_what_is_healthy(release: str, lines: object, tmp_path: Path) -> None:
    assert callable(lines)
    assert faults(tmp_path, lines(release)) == []


@pytest.mark.parametrize("release", RELEASES)
def test_one_file_a_process(release: str, tmp_path: Path) -> None:
    assert faults(tmp_path, {f"{r}.log": logs.over_ib(Rank(r), release) for r in (0, 1)}) == []
    assert faults(tmp_path, {"0.log": logs.over_ib(Rank(0), release)}) == []


def test_two_runs_with_different_versions_are_no_mismatch(tmp_path: Path) -> None:
    newer = [line.replace("0x9f3c", "0x77aa") for line in logs.cluster(2, NEW, pid=6000)]
    assert faults(tmp_path, {"old.log": logs.cluster(2, OLD), "new.log": newer}) == []


def test_sockets_within_a_host_are_no_fall_back(tmp_path: Path) -> None:
    """Eight GPUs of which one log is given: NCCL says itself that there is one node."""
    lines = [line for line in logs.over_sockets(Rank(3, ranks=8), NEW, channels=0) if "Channel" not in line]
    nodes = logs.info(Rank(3, ranks=8), "comm 0x55aa rank 3 nRanks 8 nNodes 1 localRanks 8 localRank 3 MNNVL 0")
    assert faults(tmp_path, [*lines, nodes]) == []


def test_another_network_than_ibs_is_no_fall_back(tmp_path: Path) -> None:
    lines = [
        line.replace("Using network Socket", "Using network AWS Libfabric") for line in logs.over_sockets(Rank(0), NEW)
    ]
    assert faults(tmp_path, [line.replace("NET/Socket/0", "NET/AWS Libfabric/0") for line in lines]) == []


def _interleaved(lines: list[str]) -> list[str]:
    """Two processes' lines in turn, each process' own in order."""
    of = {host: [line for line in lines if line.startswith(host)] for host in ("spark1", "spark2")}
    chance = random.Random(7)
    mixed = []
    while any(of.values()):
        host = chance.choice([host for host, left in of.items() if left])
        mixed.append(of[host].pop(0))
    return mixed


@pytest.mark.parametrize("release", [OLD, MERGING, MIDDLE, NEW])
@pytest.mark.parametrize(
    "mangle",
    [
        pytest.param(_interleaved, id="interleaved"),
        pytest.param(lambda lines: [f"[rank{i % 2}]: {line}" for i, line in enumerate(lines)], id="torchrun"),
        pytest.param(lambda lines: [f"{i % 2}: {line}" for i, line in enumerate(lines)], id="srun -l"),
        pytest.param(lambda lines: [f"\x1b[32m{line}\x1b[0m" for line in lines], id="coloured"),
        pytest.param(lambda lines: [f"{line}\r" for line in lines], id="carriage returns"),
        pytest.param(
            lambda lines: [a + b for a, b in zip(lines[::2], lines[1::2])] if len(lines) % 2 == 0 else lines,
            id="two in a line",
        ),
    ],
)
def test_what_a_launcher_made_of_a_healthy_pair(release: str, mangle: object, tmp_path: Path) -> None:
    assert callable(mangle)
    lines = logs.cluster(2, release)
    assert faults(tmp_path, mangle(lines)) == []


def test_a_torn_line_makes_no_host_of_its_own(tmp_path: Path) -> None:
    """Another process' line begins in the middle of one, so that it has half of that one before its host's name."""
    lines = logs.cluster(2, NEW)
    torn = "spark1:4000:4040 [0] NCCL INFO Chan" + logs.info(Rank(1), "Using network IB")
    front = logs.info(Rank(1), "Using network IB")[3:]
    case = read_case(tmp_path, [*lines, "x" + torn, front])
    assert {process.host for process in case.processes} == {"spark1", "spark2"}
    lost = "NCCL INFO Connected all" + logs.complete(Rank(1, 2), NEW)
    without = [line for line in lines if not (line.startswith("spark2") and "Init COMPLETE" in line)]
    assert faults(tmp_path, [*without, lost]) == []


def test_an_empty_log_says_nothing(tmp_path: Path) -> None:
    assert read_case(tmp_path, []).nothing_to_judge
    assert read_case(tmp_path, ["epoch 1 loss 2.3", "all collectives are fine"]).nothing_to_judge
    assert not read_case(tmp_path, logs.single(NEW)).nothing_to_judge
