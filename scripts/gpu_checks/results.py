"""What the parts found: verdicts, the table, the exit status and the one JSON file that is small enough to commit."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
import json
import re
from typing import Any

from gpu_checks.lines import STATUSES

SCHEMA = "roofprobe/validation/1"
OK, FAILED, BAD_INPUT, NOT_MEASURED = 0, 1, 2, 3
MOST_LINES = 400
"""Of one part; correctness on cc 10 has the most, some 120."""


@dataclass
class Part:
    """What one part printed, and how it ended."""

    name: str
    seconds: float = 0.0
    ended: str = "whole"
    """``whole``, or why it did not end by itself."""
    lines: list[dict[str, Any]] = field(default_factory=list)
    dropped: int = 0
    """Lines past the most, and lines that are no result."""

    def take(self, text: bytes) -> dict[str, Any] | None:
        """The line's result, if it is one, which is then kept."""
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        shaped = isinstance(found, dict) and isinstance(found.get("case"), str) and found.get("status") in STATUSES
        if not shaped or not isinstance(found.get("figures"), dict) or len(self.lines) >= MOST_LINES:
            self.dropped += bool(text.strip())
            return None
        self.lines.append(found)
        return dict(found)

    def count(self, status: str) -> int:
        return sum(1 for line in self.lines if line["status"] == status)

    @property
    def verdict(self) -> str:
        if self.count("wrong") or self.count("failed"):
            return "FAIL"
        if self.ended != "whole":
            return "UNFINISHED"
        if self.count("invalid"):
            return "INVALID"
        return "ok" if self.count("ok") else "SKIPPED"


def exit_status(parts: list[Part]) -> int:
    """1 where anything is wrong or failed; 0 where every part that was asked for is ok; else 3."""
    verdicts = {part.verdict for part in parts}
    if "FAIL" in verdicts:
        return FAILED
    return OK if verdicts == {"ok"} else NOT_MEASURED


def document(parts: list[Part], dry: bool) -> dict[str, Any]:
    """The result as it is committed to docs/results; `results_model.py` is its strict type."""
    lines = (line for part in parts for line in part.lines)
    machine: dict[str, Any] = next((line["figures"] for line in lines if line["case"] == "machine"), {})
    return {
        "schema": SCHEMA,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "dry_run": dry,
        "machine": machine,
        "parts": [
            {
                "name": part.name,
                "verdict": part.verdict,
                "ended": part.ended,
                "seconds": round(part.seconds, 1),
                "cases": [line for line in part.lines if line["case"] != "machine"],
            }
            for part in parts
        ],
    }


def as_text(found: dict[str, Any]) -> str:
    """JSON with one line a case: a diff shows which case changed."""
    parts = []
    for part in found["parts"]:
        cases = ",\n".join("   " + json.dumps(case) for case in part["cases"])
        head = json.dumps({key: value for key, value in part.items() if key != "cases"})[:-1]
        parts.append(f'  {head}, "cases": [\n{cases}\n  ]}}')
    head = json.dumps({key: value for key, value in found.items() if key != "parts"}, indent=1)[:-2]
    return head + ',\n "parts": [\n' + ",\n".join(parts) + "\n ]\n}\n"


def file_name(found: dict[str, Any]) -> str:
    """``nvidia-h200-2026-01-31.json``; a dry run's says so."""
    device = re.sub(r"[^a-z0-9]+", "-", str(found["machine"].get("device", "unknown")).lower()).strip("-")[:60]
    return f"{'dry-run-' if found['dry_run'] else ''}{device}-{found['created'][:10]}.json"


def table(parts: list[Part]) -> str:
    """The compact table that a run ends with."""
    lines = [f"{'part':<14}{'verdict':<12}" + "".join(f"{status:>8}" for status in STATUSES) + f"{'s':>6}"]
    for part in parts:
        counts = "".join(f"{part.count(status):>8}" for status in STATUSES)
        more = [] if part.ended == "whole" else [part.ended]
        more += [f"{part.dropped} lines of no use"] if part.dropped else []
        lines.append(f"{part.name:<14}{part.verdict:<12}{counts}{part.seconds:>6.0f}  {'; '.join(more)}".rstrip())
    return "\n".join(lines)


def line_of(found: dict[str, Any]) -> str:
    """A result for people."""
    told = [f"{name} {value}" for name, value in found["figures"].items() if found["case"] != value]
    detail = f"  {found['detail']}" if found.get("detail") else ""
    return f"   {found['status']:<8}{found['case']}{': ' + ', '.join(told) if told else ''}{detail}"
