"""docs/fault-matrix.md: what the doctor says to each case, as it says it today."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
import sys

from doctor_cases.case import Outcome, answer, complaints, shown
from doctor_cases.every import CLEAN, FAULTS, IDS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "fault-matrix.md"
INTRODUCTION = """\
# Faults that `roofprobe doctor` names

`scripts/fault_matrix --write-docs` renews this page from the cases that the tests run; a test holds it to them.

Every input here is synthetic, made from published facts about GB10 units, ConnectX-7, NCCL and nccl-tests, apart from
one real recording of Soft-RoCE. So the page shows what the doctor makes of inputs of these forms, and not how often
such faults occur or how many of them it would find on real machines.
"""


def table(outcomes: Mapping[str, Outcome]) -> str:
    """A row for each fault and remedy: the cases that lead to it and their input, in the order of the ids."""
    rows: dict[tuple[str, str, str], list[str]] = {}
    for case in FAULTS:
        seen = f"{case.name} ({case.seen})"
        said = [(f["id"], f["severity"], shown(f["remedy"])) for f in outcomes[case.name].faults()]
        for row in dict.fromkeys(row for row in said if row[1] != "info") or [("nothing", "–", "")]:
            rows.setdefault(row, []).append(seen)
    lines = ["| fault: cases (seen by) | detected as | severity | remedy |", "| --- | --- | --- | --- |"]
    for (name, severity, remedy), seen_by in sorted(rows.items(), key=lambda row: _place(row[0][0])):
        lines.append(f"| {_cell('; '.join(seen_by))} | `{name}` | {severity} | {_cell(remedy)} |")
    return "\n".join(lines) + "\n"


def _place(name: str) -> tuple[int, str]:
    return (IDS.index(name) if name in IDS else len(IDS), name)


def clean_list(outcomes: Mapping[str, Outcome]) -> str:
    said = {case.name: {f["severity"] for f in outcomes[case.name].faults()} for case in CLEAN}
    faults = sum("fault" in severities for severities in said.values())
    warned = [case.name for case in CLEAN if "warning" in said[case.name]]
    names = "\n".join(f"- {_cell(case.name)}: {_cell(case.seen)}" for case in CLEAN)
    count = f"{len(CLEAN)} cases; a fault named in {faults}, a warning given in {len(warned)}"
    return f"## Without a fault\n\n{count}{': ' if warned else ''}{'; '.join(warned)}.\n\n{names}\n"


def page(outcomes: Mapping[str, Outcome]) -> str:
    return "\n".join([INTRODUCTION, table(outcomes), clean_list(outcomes)])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def main() -> int:
    parser = argparse.ArgumentParser(prog="fault_matrix", description=__doc__)
    parser.add_argument("--write-docs", action="store_true", help=f"renew docs/{PAGE.name}")
    wants = parser.parse_args()
    outcomes = {case.name: answer(case) for case in (*FAULTS, *CLEAN)}
    wrong = {case.name: found for case in (*FAULTS, *CLEAN) if (found := complaints(case, outcomes[case.name]))}
    for name, found in wrong.items():
        print(f"{name}: {'; '.join(found)}", file=sys.stderr)
    readable = all(outcome.document is not None for outcome in outcomes.values())
    if wants.write_docs and readable:
        PAGE.write_text(page(outcomes))
    elif readable:
        print(page(outcomes))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
