"""Keys of a JSON document that this version does not know, so that reading and writing it again loses none.

An object of unknown keys mirrors the document: a key that is unknown has its value, a known one the unknown keys
within. Entries of a list may be replaced, added or moved before the document is written, so theirs are held with the
known part of the entry, ``[known, unknown]``, and go back to the entry that still equals it.
"""

from __future__ import annotations

from typing import Any


def unknown_keys(found: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    """What `found`, a decoded JSON object, holds beyond `known`, the same object as this version writes it."""
    unknown: dict[str, Any] = {}
    for key, value in found.items():
        if key not in known:
            unknown[key] = value
        elif isinstance(value, dict) and isinstance(known[key], dict):
            if within := unknown_keys(value, known[key]):
                unknown[key] = within
        elif isinstance(value, list) and isinstance(known[key], list):
            pairs = [(k, unknown_keys(v, k)) for v, k in zip(value, known[key]) if isinstance(v, dict)]
            if entries := [[k, within] for k, within in pairs if within]:
                unknown[key] = entries
    return unknown


def with_unknown(known: dict[str, Any], unknown: dict[str, Any]) -> dict[str, Any]:
    """`known` with the unknown keys in their places; those whose place is gone are left out."""
    whole = dict(known)
    for key, value in unknown.items():
        if key not in known:
            whole[key] = value
        elif isinstance(known[key], dict):
            whole[key] = with_unknown(known[key], value)
        elif isinstance(known[key], list):
            whole[key] = [_entry_with_unknown(entry, value) for entry in known[key]]
    return whole


def _entry_with_unknown(entry: Any, held: list[Any]) -> Any:
    within = next((unknown for known, unknown in held if known == entry), None)
    return entry if within is None else with_unknown(entry, within)
