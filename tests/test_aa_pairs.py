"""The recorded A/A pairs under the rule: docs/regression-rule.md tells today's figures, and they are good enough."""

from __future__ import annotations

from pathlib import Path

from aa_page import TOGETHER, VERDICTS, Judged, Recording, judge_all, page, read_recording
import pytest

PAGE = Path(__file__).resolve().parent.parent / "docs" / "regression-rule.md"


@pytest.fixture(scope="module")
def recording() -> Recording:
    return read_recording()


@pytest.fixture(scope="module")
def judged(recording: Recording) -> dict[str, Judged]:
    return judge_all(recording)


def test_the_page_in_the_documentation_is_todays(recording: Recording, judged: dict[str, Judged]) -> None:
    renew = "renew it with `.venv/bin/python -P scripts/aa_pairs.py page > docs/regression-rule.md`"
    assert PAGE.read_text() == page(recording, judged), renew


def test_a_hundred_pairs_of_the_same_raise_hardly_an_alarm(judged: dict[str, Judged]) -> None:
    one = judged["aa-1"]
    assert one.total >= 100
    assert one.counts["regression"] + one.counts["improvement"] <= 0.02 * one.total
    assert judged["aa-apart"].counts["regression"] + judged["aa-apart"].counts["improvement"] <= 2
    assert judged[f"aa-{TOGETHER}"].counts.keys() <= {"unchanged", "inconclusive"}


def test_twice_the_limit_is_found(judged: dict[str, Judged]) -> None:
    """With several processes a side practically always; with one, what is not found is left open, not passed."""
    several, one = judged[f"twice-{TOGETHER}-exactly"], judged["twice-1-exactly"]
    assert several.counts["regression"] >= 0.9 * several.total
    assert one.counts["regression"] >= 0.7 * one.total
    assert one.counts["unchanged"] + one.counts["improvement"] <= 0.02 * one.total


def test_half_the_limit_is_not_found(judged: dict[str, Judged]) -> None:
    for name in ("half-1", f"half-{TOGETHER}", "half-uncalibrated"):
        assert judged[name].counts["regression"] <= 0.02 * judged[name].total, name


def test_every_comparison_has_one_verdict(judged: dict[str, Judged]) -> None:
    for each in judged.values():
        assert each.counts.keys() <= set(VERDICTS) and each.total > 0


def test_the_recording_is_of_four_sorts_and_keeps_what_was_contended(recording: Recording) -> None:
    assert {process.name for process in recording.processes} == {"same", "again", "tenth", "fortieth"}
    assert any(not process.samples for process in recording.processes)
    assert recording.seconds <= 5
