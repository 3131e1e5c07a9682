"""An acceptance as text for people: a line a check, the faults with their remedies, and the verdict in one line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import get_args

from roofprobe.acceptance.folder import Acceptance
from roofprobe.acceptance.rules import told
from roofprobe.acceptance.verdict import Check, Verdict


def as_text(acceptance: Acceptance) -> str:
    """The table, the sources of its limits, each FAIL's faults, and what the verdict means."""
    lines = [f"{acceptance.title} ({acceptance.platform}), host {acceptance.host}, run of {acceptance.created}", ""]
    lines += _table(acceptance)
    for check in acceptance.checks:
        for fault in check.faults if check.verdict == "FAIL" else ():
            lines += ["", f"FAIL {fault.id} on {fault.host} ({check.title})"]
            lines += [f"  {fault.evidence}", f"  remedy: {fault.remedy}"]
    lines += ["", summary(acceptance)]
    return "\n".join(_plain(line) for line in lines) + "\n"


def summary(acceptance: Acceptance) -> str:
    """``PASS: 14 checks passed, 2 skipped``, or what is wrong or missing."""
    of = {word: sum(check.verdict == word for check in acceptance.checks) for word in get_args(Verdict)}
    counts = f"{of['PASS']} passed, {of['FAIL']} failed, {of['INCONCLUSIVE']} inconclusive, {of['SKIP']} skipped"
    cut = "; the run did not come to its end: what it measured is kept and judged" if acceptance.interrupted else ""
    if acceptance.verdict == "FAIL":
        return f"FAIL: {', '.join(dict.fromkeys(fault.id for fault in acceptance.faults))} ({counts}){cut}"
    if acceptance.exit_status:
        names = ", ".join(check.check for check in acceptance.open) or "no check decided anything"
        return f"INCONCLUSIVE: required and not decided: {names} ({counts}){cut}"
    return f"PASS ({counts})"


def _table(acceptance: Acceptance) -> Iterator[str]:
    sources: dict[str, int] = {}
    rows = [("verdict", "check", "measured [95 %]", "limit")]
    notes: list[str] = [""]
    without_gpu = _without_gpu(acceptance.checks)
    for check in acceptance.checks:
        if check in without_gpu[1:]:
            continue
        if check in without_gpu:
            rows.append((f"{check.verdict}*", f"{len(without_gpu)} checks of a GPU", "", ""))
            notes.append(f"  {', '.join(each.check for each in without_gpu)}: {without_gpu[0].reason}")
            continue
        limits = []
        for bound in check.limits:
            number = sources.setdefault(bound.source, len(sources) + 1)
            limits.append(f"{bound.text} [{number}]")
        verdict = check.verdict if check.required else f"{check.verdict}*"
        rows.append((verdict, check.title, "" if check.measured is None else told(check), " and ".join(limits)))
        notes.append(_note(check))
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    for row, note in zip(rows, notes):
        yield "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[3]]).rstrip()
        if note:
            yield f"{'':{widths[0]}}  {note}"
    if any(not check.required for check in acceptance.checks):
        yield "* not required: no acceptance waits for it"
    for source, number in sources.items():
        yield f"[{number}] {source}"


def _without_gpu(checks: Sequence[Check]) -> list[Check]:
    """A machine without a GPU has nothing to say of each of its checks: where all are skipped, they share a line."""
    of_gpu = [check for check in checks if check.title.startswith("GPU ")]
    return [] if any(check.required or check.verdict != "SKIP" for check in of_gpu) else of_gpu


def _note(check: Check) -> str:
    """What stands below a row: why nothing was decided."""
    return f"  {check.reason}" if check.reason and check.verdict in ("INCONCLUSIVE", "SKIP") else ""


def _plain(text: str) -> str:
    """Text of a stranger's file: nothing that a terminal would act on."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
