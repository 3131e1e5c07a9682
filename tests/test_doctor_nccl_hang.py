"""A collective that hangs, in the words of torch's watchdog since 2.1, of gloo and of roofprobe's own watch."""

from __future__ import annotations

from pathlib import Path

from doctor_logs import faults, named
import nccl_logs as logs
from nccl_logs import NEW, Rank, watchdog
import pytest

OLD_TORCH = (
    "[E ProcessGroupNCCL.cpp:458] [Rank 0] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=96120,"
    " OpType=ALLREDUCE, Timeout(ms)=1800000) ran for 1800887 milliseconds before timing out."
)


def pair(*lines: str) -> list[str]:
    return [*logs.cluster(2, NEW), *lines]


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(watchdog(0), id="torch 2.4"),
        pytest.param(OLD_TORCH, id="torch 2.1"),
        pytest.param(f"\x1b[31m{watchdog(0)}", id="coloured"),
        pytest.param(f"{'#' * 6000} 1.3it/s]{watchdog(0)}", id="after a progress bar"),
    ],
)
def test_the_rank_that_does_not_report_is_the_suspect(line: str, tmp_path: Path) -> None:
    (found,) = faults(tmp_path, pair(line))
    assert named([found]) == [("collective.hang", "spark2")]
    assert "rank 0 (spark1) waited in vain in ALLREDUCE number" in found.evidence
    assert "rank 1 (spark2) has not reported" in found.evidence and "rank 1 (spark2)" in found.remedy


def test_all_ranks_wait(tmp_path: Path) -> None:
    (found,) = faults(tmp_path, pair(watchdog(0), watchdog(1)))
    assert named([found]) == [("collective.hang", "spark1, spark2")]
    assert "rank 0 (spark1), 1 (spark2) waited in vain in ALLREDUCE number 1580 for 600 s" in found.evidence
    assert "all 2 ranks waited" in found.evidence


def test_ranks_in_different_collectives(tmp_path: Path) -> None:
    (found,) = faults(tmp_path, pair(watchdog(0), watchdog(1, 1579, "BROADCAST")))
    assert "ALLREDUCE number 1580" in found.evidence and "BROADCAST number 1579" in found.evidence


@pytest.mark.parametrize(
    "counts",
    [
        pytest.param(
            "Exception (either an error or timeout) detected by watchdog at work: 78, last enqueued NCCL work: {0},"
            " last completed NCCL work: 77.",
            id="torch 2.4",
        ),
        pytest.param(
            " failure detected by watchdog at work sequence id: 78 PG status: last enqueued work: {0}, last completed"
            " work: 77",
            id="torch 2.6",
        ),
    ],
)
def test_the_rank_that_has_begun_fewer(counts: str, tmp_path: Path) -> None:
    said = [f"[rank{r}]:[E321 ProcessGroupNCCL.cpp:1785] [PG ID 0 PG GUID 0(default_pg) Rank {r}] {counts.format(n)}"
            for r, n in ((0, 79), (1, 78), (2, 79))]  # fmt: skip
    lines = [*logs.cluster(3, NEW), *map(watchdog, range(3)), *said]
    (found,) = faults(tmp_path, lines)
    assert named([found]) == [("collective.hang", "spark2")]
    assert "rank 1 (spark2) has begun 78 collectives, fewer than the others" in found.evidence


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("[PG ID 0 Rank 1] Observed flight recorder dump signal from another rank via TCPStore.", "only heard"),
        ("\t - To our best knowledge, ranks [1] are the lagging ranks that caused this timeout.", "never joined"),
        ("\t     [1] finished collective #5, but didn't join collective #6 (count from 1)", "did not join the next"),
    ],
)
def test_the_rank_that_torch_names(line: str, why: str, tmp_path: Path) -> None:
    (found,) = faults(tmp_path, pair(watchdog(0), line))
    assert named([found]) == [("collective.hang", "spark2")]
    assert why in found.evidence


@pytest.mark.parametrize(
    "line",
    [
        "[rank0]:[E ProcessGroupNCCL.cpp:1316] [PG 0 Rank 0] Heartbeat monitor timed out! Process will be terminated",
        "[rank0]:[F626 ProcessGroupNCCL.cpp:1743] [Rank 0] ProcessGroupNCCL's watchdog got stuck for 480 seconds",
        "RuntimeError: [../gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 1800000ms for recv operation",
        "RuntimeError: Rank 0 timed out in monitoredBarrier after 30000 ms.\nRanks 1 failed to pass monitoredBarrier",
    ],
    ids=["heartbeat", "stuck watchdog", "gloo", "barrier"],
)
def test_other_words_for_it(line: str, tmp_path: Path) -> None:
    assert [f.id for f in faults(tmp_path, pair(line))] == ["collective.hang"]


@pytest.mark.parametrize(
    ("said", "host"),
    [
        ("rank 1 on spark2 (10.1.0.2) stopped answering 4 s ago in all_reduce: nothing comes back", "spark2"),
        ("rank 1 on spark2 (10.1.0.2) is late: no progress for 61 s in all_gather", "spark2"),
        ("rank 0 on spark1 is cut off: for 9 s nothing has come from any other rank, in reduce", "spark1"),
        ("rank 1 on spark2 died in broadcast: its connections closed without a word; was it killed?", "spark2"),
        ("all ranks have waited for 60 s in all_reduce and each of them answers, as rank 0 sees it", "spark1, spark2"),
    ],
)  # fmt: skip
def test_roofprobes_own_words(said: str, host: str, tmp_path: Path) -> None:
    (found,) = faults(tmp_path, pair(f"roofprobe collectives: {said}"))
    assert named([found]) == [("collective.hang", host)]
    assert said[:60] in found.evidence


def test_a_stuck_start_explains_a_hang(tmp_path: Path) -> None:
    lines = [*logs.begin(Rank(0), NEW), *logs.begin(Rank(1), NEW), watchdog(0), watchdog(1)]
    (found,) = faults(tmp_path, lines)
    assert found.id == "nccl.init-stuck" and "collective.hang" in found.evidence


def test_words_that_are_no_hang(tmp_path: Path) -> None:
    """What an error of another kind, or a healthy program, writes with the same words."""
    harmless = [
        "[rank0]: TORCH_NCCL_HEARTBEAT_TIMEOUT_SEC=600, watchdog thread started",
        "INFO collective #3 of 5 done on rank 0",
        "[rank1] died in the 80s",
        "rank 0 on node a is fine; rank 1 on node b is fine",
    ]
    assert faults(tmp_path, pair(*harmless)) == []
