"""Every fault that a cluster of GB10 units is known for is named, exactly and alone; what is healthy raises nothing.

The cases are synthetic, made by `doctor_cases` from published facts, apart from the one real recording of Soft-RoCE.
They go through the public command line, in this process.
"""

from functools import cache
import os
from pathlib import Path
import subprocess
import sys

from doctor_cases.case import Case, Outcome, answer, complaints
from doctor_cases.every import CLEAN, FAULTS, IDS
from doctor_cases.page import PAGE, page
import pytest

once = cache(answer)
"""A case is hashed by its name alone."""


@pytest.mark.parametrize("case", FAULTS, ids=lambda case: case.name)
def test_a_fault_is_named_and_no_other(case: Case) -> None:
    assert complaints(case, once(case)) == []


@pytest.mark.parametrize("case", CLEAN, ids=lambda case: case.name)
def test_what_is_healthy_raises_nothing(case: Case) -> None:
    assert complaints(case, once(case)) == []


def test_the_matrix_is_whole() -> None:
    assert {case.finding.id for case in FAULTS if case.finding} == set(IDS)
    assert len(CLEAN) >= 40
    names = [case.name for case in (*FAULTS, *CLEAN)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("case", [FAULTS[0], CLEAN[4]], ids=lambda case: case.name)
def test_a_complaint_is_made_of_a_wrong_answer(case: Case) -> None:
    """The comparison itself can fail: with nothing said to a fault, or a fault said where there is none."""
    invented = {"id": "link.port-down", "severity": "fault", "host": "spark-a", "evidence": "", "remedy": ""}
    document = {**once(case).document, "faults": [] if case.finding else [invented]}
    assert complaints(case, Outcome(once(case).status, document, ""))


def test_the_page_shows_what_is_said_today() -> None:
    outcomes = {case.name: once(case) for case in (*FAULTS, *CLEAN)}
    assert PAGE.read_text() == page(outcomes), "run scripts/fault_matrix --write-docs"


def test_the_script_that_renews_the_page_starts() -> None:
    script = Path(__file__).resolve().parent.parent / "scripts" / "fault_matrix"
    environment = os.environ | {"ROOFPROBE_PYTHON": sys.executable}
    done = subprocess.run([str(script), "--help"], env=environment, capture_output=True, text=True)
    assert (done.returncode, "--write-docs" in done.stdout) == (0, True), done.stderr
