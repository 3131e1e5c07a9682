"""What the tuner's journal keeps, and what it never takes for a measurement of the case at hand."""

from pathlib import Path

import pytest
from records import environment

from roofprobe.errors import BadInput
from roofprobe.probes.tune_journal import Journal, Tried, binding, kernels_digest


def tried(name: str) -> Tried:
    return Tried(binding="b", subject="s", phase="screen", config={"name": name}, wrong=1, problem="1 elements wrong")


@pytest.fixture
def journal_file(tmp_path: Path) -> Path:
    path = tmp_path / "journal"
    with Journal(path, "b") as journal:
        journal.add(tried("first"))
        journal.add(tried("second"))
    return path


def test_a_torn_last_line_is_passed_over_and_written_over(journal_file: Path) -> None:
    journal_file.write_bytes(journal_file.read_bytes()[:-20])
    with Journal(journal_file, "b") as journal:
        assert len(journal) == 1
        assert journal.find("s", "screen", {"name": "second"}) is None
        journal.add(tried("third"))
    with Journal(journal_file, "b") as journal:
        assert journal.find("s", "screen", {"name": "first"}) == tried("first")
        assert journal.find("s", "screen", {"name": "third"}) == tried("third")


def test_a_line_that_is_no_record_is_named(journal_file: Path) -> None:
    journal_file.write_bytes(b"{}\n" + journal_file.read_bytes())
    with pytest.raises(BadInput, match=r"journal: line 1: .*delete the file"):
        Journal(journal_file, "b")


def test_what_is_finished_is_measured_anew(journal_file: Path) -> None:
    with Journal(journal_file, "b") as journal:
        journal.finish(["another subject"])
    with Journal(journal_file, "b") as journal:
        assert len(journal) == 2
        journal.finish(["s"])
    with Journal(journal_file, "b") as journal:
        assert len(journal) == 0
        journal.add(tried("first"))
    with Journal(journal_file, "b") as journal:
        assert len(journal) == 1


def test_one_run_at_a_time(journal_file: Path) -> None:
    with Journal(journal_file, "b"), pytest.raises(BadInput, match="another roofprobe is tuning"):
        Journal(journal_file, "b")
    Journal(journal_file, "b").__exit__()


def test_the_binding_follows_what_timings_depend_on(tmp_path: Path) -> None:
    bound = binding(environment(), "k")
    assert bound == binding(environment(created="later", memory_available_bytes=1), "k")
    for other in (
        environment(torch="2.14.0"),
        environment(driver="590.1"),
        environment(variables={"NCCL_ALGO": "Ring"}),
    ):
        assert binding(other, "k") != bound
    assert binding(environment(), "l") != bound
    (tmp_path / "a.py").write_text("x = 1")
    before = kernels_digest(tmp_path)
    (tmp_path / "a.py").write_text("x = 2")
    assert kernels_digest(tmp_path) != before
