"""Judged claims as JSON, as text for people, and as the page docs/claims.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
import textwrap
from typing import Any

from roofprobe.claims import Judged
from roofprobe.claims_data import ClaimsFile
from roofprobe.claims_limits import Held
from roofprobe.rate_bounds import VERDICTS

_WIDTH = 120
_INTRODUCTION = """# Published claims

`roofprobe claims --markdown` writes this page from data/claims.toml; a test compares. Each statement is in our words;
its number says in which line of the document it stands.

impossible: above what memory can do at its nominal rate, more than fits, or a sum that does not add up. implausible:
above what memory was measured to do, or above that with the link's cost. undecidable: not for arithmetic, but for what
the row names. plausible: nothing in arithmetic speaks against it, which does not make it true.

A range is judged at both ends and has the verdict of the worse one. A figure is as exact as it is written, half of its
last digit; "about" allows 5 %, at most five of its last digit. Without a stated weight format the published one that
favours the claim most is taken and named. Rates are of one stream with an empty cache, and held as written. `tp2`:
tensor parallelism over two units, `dp2`: one copy of the weights on each.
"""


def as_json(judged: Sequence[Judged], held: Held) -> dict[str, Any]:
    """The documented keys; `figure` is a number, or both ends of a range."""
    return {
        "bounds": bounds_json(held),
        "counts": dict(_counts(judged)),
        "claims": [
            {
                "id": j.claim.id,
                "document": j.document,
                "line": j.claim.line,
                "text": j.claim.text,
                "figure": list(j.claim.ends) if len(j.claim.ends) > 1 else j.claim.figure,
                "unit": j.claim.unit,
                "about": j.claim.about,
                "model": j.claim.model,
                "format": j.format,
                "format_stated": j.claim.format is not None,
                "units": j.claim.units,
                "parallelism": j.parallelism,
                "verdict": j.verdict,
                "verdicts": list(j.ends),
                "arithmetic": j.arithmetic,
                "disagrees_with": list(j.disagrees_with),
            }
            for j in judged
        ],
    }


def bounds_json(held: Held) -> dict[str, Any]:
    """What figures were held against."""
    limits = held.limits
    return {
        "nominal_gb_per_s": limits.nominal_gb_per_s,
        "measured_gb_per_s": limits.measured_gb_per_s,
        "usable_bytes_per_unit": None if limits.usable_bytes is None else round(limits.usable_bytes),
        "source": held.source,
    }


def as_text(judged: Sequence[Judged], data: ClaimsFile, held: Held) -> str:
    """Document by document, each claim with its arithmetic below it."""
    lines = [f"held against: {held.source}"]
    for document in data.documents:
        mine = [j for j in judged if j.document == document.name]
        lines += ["", f"{document.title} ({document.name}): {_summary(mine)}", ""]
        for j in mine:
            lines += textwrap.wrap(
                f"{j.verdict:<12}{figure_text(j)}: {j.claim.text}", _WIDTH, subsequent_indent=" " * 12
            )
            lines += _indented(j.arithmetic)
            if j.disagrees_with:
                lines += _indented(f"disagrees with {', '.join(j.disagrees_with)}")
    return "\n".join([*lines, "", f"all documents: {_summary(judged)}"])


def as_markdown(judged: Sequence[Judged], data: ClaimsFile, held: Held) -> str:
    """The page docs/claims.md."""
    lines = [_INTRODUCTION, f"Held against: {held.source}.", "", f"All documents: {_summary(judged)}."]
    for document in data.documents:
        mine = [j for j in judged if j.document == document.name]
        lines += ["", f"## {document.title}", "", f"`{document.name}`: {_summary(mine)}.", ""]
        lines += ["| id | claim | figure | verdict | arithmetic |", "| --- | --- | --- | --- | --- |"]
        for j in mine:
            others = f"; disagrees with {', '.join(j.disagrees_with)}" if j.disagrees_with else ""
            cells = (j.claim.id, j.claim.text, figure_text(j), j.verdict, j.arithmetic + others)
            lines.append("| " + " | ".join(cell.replace("*", r"\*").replace("|", r"\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def figure_text(j: Judged) -> str:
    """``about 40 to 50 tok/s``."""
    figures = " to ".join(f"{end:,}" for end in j.claim.ends)
    return f"{'about ' if j.claim.about else ''}{figures} {j.claim.unit}"


def _summary(judged: Sequence[Judged]) -> str:
    return f"{len(judged)} claims, " + ", ".join(f"{count} {verdict}" for verdict, count in _counts(judged))


def _counts(judged: Iterable[Judged]) -> list[tuple[str, int]]:
    found = Counter(j.verdict for j in judged)
    return [(verdict, found[verdict]) for verdict in VERDICTS]


def _indented(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=" " * 12, subsequent_indent=" " * 12, break_on_hyphens=False)
