"""Text for a file that a shell will read: nothing that a profile holds can end a comment or be run."""

from __future__ import annotations

import re
import shlex

VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*")


def comment(text: str) -> str:
    """One comment line; what would end it, and anything else that does not print, becomes a space."""
    return "# " + "".join(character if character.isprintable() else " " for character in text)


def export(name: str, value: str) -> str:
    """``export NAME=value``, quoted where needed. Raises ValueError for what is no variable's name."""
    if not VARIABLE.fullmatch(name):
        raise ValueError(f"expected a variable's name, got {name!r}")
    return f"export {name}={shlex.quote(value)}"
