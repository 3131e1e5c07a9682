"""Who is blamed for what, from evidence made up: the cases that real faults produce, and those too rare to provoke."""

from __future__ import annotations

import pytest

from roofprobe.collectives.faults import Beat, Certainty, Fault, Standing
from roofprobe.collectives.results import RankInfo
from roofprobe.collectives.verdict import Trouble, judge

NOW = 1000.0
TIMEOUT = 60.0
LOOP = "the timed loop of all_reduce, 1.00 MiB in place"
TIMED_OUT = Trouble(NOW, 1.0, TIMEOUT, error="Timed out waiting 60000ms for recv operation to complete")


def info(rank: int) -> RankInfo:
    return RankInfo(
        rank=rank, pid=100 + rank, host=f"node{rank + 1}", machine="m", network="n", local_rank=0, device_index=0,
        device_id="", device_address="cpu", device_name="", memory_budget_bytes=1, shares_memory_with="m",
        address=f"10.77.0.{rank + 1}",
    )  # fmt: skip


def waiting(rank: int, seconds: float = TIMEOUT, progress: int = 7) -> Standing:
    """A rank that answers, and has been in the same operation for that long without using its CPU."""
    return Standing(
        info(rank), heard=NOW, moved=NOW - seconds, beat=Beat(progress, LOOP, False, 1.0), moved_cpu_seconds=1.0
    )


def verdict(ranks: list[Standing], trouble: Trouble, own: int = 0) -> Fault:
    found = judge(ranks, own, trouble)
    assert found is not None
    return found


def test_the_rank_whose_connections_closed_first_is_blamed_before_one_that_failed_of_it() -> None:
    ranks = [waiting(0, 1), waiting(1, 1), waiting(2, 1)]
    ranks[2].closed, ranks[1].closed = NOW - 0.2, NOW - 0.1
    found = verdict(ranks, Trouble(NOW, 1.0, TIMEOUT, error="Connection reset by peer"))
    assert (found.certainty, found.culprit) == (Certainty.DIED, 2)
    assert found.text.startswith(f"rank 2 on node3 (10.77.0.3) died in {LOOP}")


@pytest.mark.parametrize(
    ("is_unanswered", "words"),
    [(False, "its host still does; was it stopped"), (True, "nothing comes back from its host")],
)
def test_a_silent_rank_is_told_from_a_silent_host(is_unanswered: bool, words: str) -> None:
    ranks = [waiting(0), waiting(1), waiting(2)]
    ranks[1].heard, ranks[1].is_unanswered = NOW - 12, is_unanswered
    found = verdict(ranks, TIMED_OUT)
    assert (found.certainty, found.culprit) == (Certainty.SILENT, 1)
    assert "rank 1 on node2 (10.77.0.2) stopped answering 12 s ago in" in found.text
    assert words in found.text


def test_a_rank_that_hears_nobody_blames_its_own_link() -> None:
    ranks = [waiting(0), waiting(1), waiting(2)]
    for other in ranks[:2]:
        other.heard, other.is_unanswered = NOW - 5, True
    found = verdict(ranks, TIMED_OUT, own=2)
    assert found.culprit == 2
    assert "rank 2 on node3 (10.77.0.3) is cut off" in found.text


def test_an_exception_on_a_rank_that_waited_for_nobody_is_its_own() -> None:
    found = verdict([waiting(0, 0.1), waiting(1, 0.1)], Trouble(NOW, 1.0, TIMEOUT, error="can't allocate memory"))
    assert (found.certainty, found.culprit) == (Certainty.FAILED, 0)
    assert found.text == f"rank 0 on node1 (10.77.0.1) failed in {LOOP}: can't allocate memory"


def test_an_exception_after_another_rank_told_a_fault_is_that_ones() -> None:
    ranks = [waiting(0, 0.1), waiting(1, 0.1)]
    ranks[1].has_told, ranks[1].closed = True, NOW
    told = Trouble(NOW, 1.0, TIMEOUT, error="Connection closed by peer", others_told=True)
    assert judge(ranks, 0, told) is None


def test_a_rank_that_left_in_peace_is_blamed_only_by_one_that_still_needed_it() -> None:
    ranks = [waiting(0, 0.1), waiting(1, 0.1)]
    ranks[1].has_left, ranks[1].closed = True, NOW
    found = verdict(ranks, Trouble(NOW, 1.0, TIMEOUT, error="Connection closed by peer"))
    assert (found.certainty, found.culprit) == (Certainty.LEFT, 1)


def test_the_rank_that_is_least_far_is_late() -> None:
    ranks = [waiting(0), waiting(1, progress=6), waiting(2)]
    ranks[1].beat = replace_phase(ranks[1].beat, "filling the buffers", alone=True)
    found = verdict(ranks, TIMED_OUT)
    assert (found.certainty, found.culprit) == (Certainty.LATE, 1)
    assert "no progress for 60 s in filling the buffers" in found.text


def test_of_ranks_that_are_equally_far_the_one_that_computes_is_late() -> None:
    ranks = [waiting(0), waiting(1), waiting(2)]
    ranks[1].moved_cpu_seconds = -58.0
    found = verdict(ranks, TIMED_OUT)
    assert (found.certainty, found.culprit) == (Certainty.LATE, 1)
    assert "its main thread took 98% of a CPU" in found.text


def test_ranks_that_spin_while_they_wait_accuse_nobody() -> None:
    ranks = [waiting(0), waiting(1)]
    for standing in ranks:
        standing.moved_cpu_seconds = -58.0
    found = verdict(ranks, TIMED_OUT)
    assert (found.certainty, found.culprit) == (Certainty.STUCK, None)
    assert LOOP in found.text
    assert "Timed out waiting" in found.text


def test_a_signal_is_blamed_only_where_nothing_else_is_wrong() -> None:
    told = Trouble(NOW, 1.0, TIMEOUT, signal="SIGTERM")
    ranks = [waiting(0, 1), waiting(1, 1)]
    assert "rank 0 on node1 (10.77.0.1) was told to end by SIGTERM in" in verdict(ranks, told).text
    ranks[1].closed = NOW
    assert verdict(ranks, told).certainty == Certainty.DIED


def replace_phase(beat: Beat, phase: str, alone: bool) -> Beat:
    return Beat(beat.progress, phase, alone, beat.cpu_seconds)
