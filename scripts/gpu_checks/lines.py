"""What a part of the validation prints: a line of JSON a case, so that what was found survives what comes next."""

from __future__ import annotations

import json
from typing import Any, Literal

Status = Literal["ok", "wrong", "failed", "invalid", "skipped"]
"""``wrong``: a result; ``failed``: no result; ``invalid``: a reading that is not to be believed."""
STATUSES: tuple[Status, ...] = ("ok", "wrong", "failed", "invalid", "skipped")


class NotHereError(Exception):
    """What this machine has not got; its text is a skipped case's reason."""


def say(case: str, status: Status, detail: str = "", **figures: Any) -> None:
    """`figures` have their unit in their name; None is left out."""
    known = {name: value for name, value in figures.items() if value is not None}
    line = {"case": case, "status": status, **({"detail": detail} if detail else {}), "figures": known}
    print(json.dumps(line, allow_nan=False, default=str), flush=True)


def first_line(error: BaseException) -> str:
    """An error as a detail: its kind and the first line of what it says."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else ''}"[:400]
