"""One run of `doctor`: what it is given and what it has to say. Cases are data; running and comparing is below."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
import json
import os
from pathlib import Path
import re
from tempfile import TemporaryDirectory
from typing import Any

from doctor_cases.recorded import Tree, store_folder, store_json


@dataclass(frozen=True)
class Finding:
    id: str
    hosts: tuple[str, ...]
    """Any of these may be named; several where nobody can say which of them is at fault."""
    evidence: str
    """A pattern for the value that decides."""
    remedy: str
    """A pattern for what a remedy can't do without."""
    severity: str = "fault"


@dataclass(frozen=True)
class Case:
    name: str
    seen: str
    """For the page: what the input is."""
    finding: Finding | None = None
    status: int = 1
    second: Finding | None = None
    """A fault beside `finding`, of another id and another host, that neither explains."""
    roots: Mapping[str, Tree] = field(default_factory=dict)
    folders: bool = False
    """Stored as folders instead of JSON."""
    before: Mapping[str, Tree] = field(default_factory=dict)
    logs: Mapping[str, str] = field(default_factory=dict)
    telemetry: Mapping[str, str] = field(default_factory=dict)
    measured: str | None = None
    flags: tuple[str, ...] = ()
    silent: bool = True
    """Of a case without a finding: warnings would be wrong too."""

    def __hash__(self) -> int:
        return hash(self.name)


def arguments(case: Case, folder: Path) -> list[str]:
    """Writes the case's files; the command line that reads them."""
    words: list[str] = []
    for flag, trees in (("--root", case.roots), ("--before", case.before)):
        place = folder / flag[2:]
        place.mkdir()
        for name, tree in trees.items():
            store = store_folder if case.folders else store_json
            words += [flag, str(store(tree, place / (f"root-{name}" if case.folders else f"root-{name}.json")))]
    texts = [("--nccl-log", name, body) for name, body in case.logs.items()]
    texts += [("--telemetry", f"telemetry-{name}.jsonl", body) for name, body in case.telemetry.items()]
    texts += [("--measured", "measured.json", case.measured)] if case.measured is not None else []
    for flag, name, body in texts:
        (folder / name).write_text(body)
        words += [flag, str(folder / name)]
    return [*words, *case.flags]


@dataclass(frozen=True)
class Outcome:
    status: int
    document: Any
    errors: str

    def faults(self) -> list[dict[str, Any]]:
        found = self.document["faults"]
        assert isinstance(found, list)
        return found


def run(words: list[str]) -> Outcome:
    """`roofprobe doctor … --json` in this process."""
    from roofprobe.cli import main

    out, errors = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(errors):
        try:
            status = main(["doctor", *words, "--json"])
        except SystemExit as exit_:  # argparse's
            status = exit_.code if isinstance(exit_.code, int) else 2
    text = out.getvalue()
    return Outcome(status, json.loads(text) if text.strip() else None, errors.getvalue())


MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""Folders of thousands of small files cost ten times as much on a disk."""


def answer(case: Case) -> Outcome:
    """The case's files for as long as they are read."""
    with TemporaryDirectory(dir=MEMORY) as folder:
        return run(arguments(case, Path(folder)))


def shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


KEYS = {"id", "severity", "host", "evidence", "remedy"}


def _misshapen(document: Any) -> list[str]:
    found = [] if isinstance(document.get("facts"), (dict, list)) else [f"facts is {document.get('facts')!r:.60}"]
    for f in document["faults"]:
        found += [f"keys {sorted(f)}"] if set(f) < KEYS else []
        found += [f"severity {f.get('severity')!r}"] if f.get("severity") not in ("fault", "warning", "info") else []
        found += [f"{f.get('id')} lacks evidence or remedy"] if not (f.get("evidence") and f.get("remedy")) else []
    return found


def complaints(case: Case, outcome: Outcome) -> list[str]:
    """What is wrong with the answer; empty where it is right."""
    if outcome.document is None:
        return [f"status {outcome.status} and no document: {outcome.errors.strip()[-300:]}"]
    said = outcome.faults()
    serious = [f for f in said if f["severity"] == "fault"]
    loud = [f for f in said if f["severity"] != "info"]
    found = _misshapen(outcome.document)
    found += [] if outcome.status == case.status else [f"status {outcome.status}, expected {case.status}"]
    if case.finding is None:
        unwanted = loud if case.silent else serious
        return found + [f"unwanted {_line(f)}" for f in unwanted]
    wanted = [case.finding, *([case.second] if case.second else [])]
    named = loud if any(want.severity != "fault" for want in wanted) else serious
    found += [f"unwanted {_line(f)}" for f in named if f["id"] not in [want.id for want in wanted]]
    return [*found, *(complaint for want in wanted for complaint in _complaints_of_one(want, said))]


def _complaints_of_one(want: Finding, said: list[dict[str, Any]]) -> list[str]:
    matching = [f for f in said if (f["id"], f["severity"]) == (want.id, want.severity)]
    if not matching:
        return [f"no {want.severity} {want.id}; said {[(f['id'], f['severity'], f['host']) for f in said]}"]
    hosts = [f["host"] for f in matching]
    found = [f"{want.id} twice for {host}" for i, host in enumerate(hosts) if host in hosts[:i]]
    found += [f"host {host!r}, expected one of {want.hosts}" for host in hosts if host not in want.hosts]
    evidence = " ".join(shown(f["evidence"]) for f in matching)
    found += [] if re.search(want.evidence, evidence) else [f"evidence lacks /{want.evidence}/: {evidence}"]
    return found + [
        f"remedy lacks /{want.remedy}/: {shown(f['remedy'])}"
        for f in matching
        if not re.search(want.remedy, shown(f["remedy"]), re.IGNORECASE)
    ]


def _line(f: Mapping[str, Any]) -> str:
    return f"{f['severity']} {f['id']} on {f['host']}: {shown(f['evidence'])[:240]}"
