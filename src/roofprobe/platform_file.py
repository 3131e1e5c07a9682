"""Reads a platform file: TOML, strictly, with `base` for what it shares with another one.

A file with ``base = "gb10"`` takes everything from that platform's file that it does not say itself. Tables are merged
key by key; a figure or a limit (a table with a `source`) is replaced as a whole. `name`, `title` and `base` are never
taken over, and a base has no base of its own.
"""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
import re
import tomllib
from typing import Any, NoReturn, TypeVar, get_args

import msgspec

from roofprobe.acceptance.limits import CHECKS, Ceiling, CheckLimit, complaint
from roofprobe.errors import BadInput
from roofprobe.files import open_regular

LARGEST_FILE_BYTES = 1 << 20
_OWN = ("name", "title", "base")
_T = TypeVar("_T")


def read_tables(path: Path, shipped: Path) -> dict[str, Any]:
    """The file's tables over those of its base, which is one of the files in `shipped`.

    Raises BadInput naming the file and what is wrong: unreadable, no TOML, no such base, a base with a base.
    """
    own = _toml(path)
    if "base" not in own:
        return own
    name = own["base"]
    known = sorted(each.stem for each in shipped.glob("*.toml"))
    if not isinstance(name, str) or name not in known:
        raise BadInput(f"{path}: base: found {_shown(name)}; expected one of {', '.join(known)}")
    base = _toml(shipped / f"{name}.toml")
    if "base" in base:
        raise BadInput(f"{path}: base: found '{name}', which has a base itself; expected '{base['base']}'")
    return _merged({key: value for key, value in base.items() if key not in _OWN}, own)


def _toml(path: Path) -> dict[str, Any]:
    try:
        with open_regular(path) as file:
            data = file.read(LARGEST_FILE_BYTES + 1)
        if len(data) > LARGEST_FILE_BYTES:
            raise BadInput(f"{path}: larger than 1 MiB; expected a platform file")
        return tomllib.loads(data.decode())
    except OSError as error:
        raise BadInput(f"can't read platform file {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(f"{path}: not TOML: {error}") from None


def _merged(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    whole = dict(base)
    for key, value in own.items():
        before = whole.get(key)
        if isinstance(value, dict) and isinstance(before, dict) and "source" not in {*value, *before}:
            whole[key] = _merged(before, value)
        else:
            whole[key] = value
    return whole


def convert(path: Path, tables: dict[str, Any], kind: type[_T]) -> _T:
    """`tables` as a platform. Raises BadInput with the file, the field's path, what was found and what was expected."""
    checks = tables.get("checks", {})
    if isinstance(checks, dict):  # one by one, so that a complaint can name the check
        for name, value in checks.items():
            _check(path, name, value)
    try:
        return msgspec.convert(tables, kind)
    except msgspec.ValidationError as error:
        _complain(path, tables, "", error)


def _check(path: Path, name: str, value: Any) -> None:
    if name not in CHECKS:
        near = get_close_matches(name, CHECKS, n=1)
        meant = f"did you mean '{near[0]}'?" if near else f"expected one of {', '.join(CHECKS)}"
        raise BadInput(f"{path}: checks.{name}: no such check; {meant}")
    try:
        limit = msgspec.convert(value, CheckLimit)
    except msgspec.ValidationError as error:
        _complain(path, value, f"checks.{name}", error)
    wrong = complaint(name, limit)
    if wrong is not None:
        raise BadInput(f"{path}: checks.{name}.{wrong[0]}: {wrong[1]}")


_TYPES = {"object": "a table", "array": "a list", "str": "text", "float": "a number", "int": "a whole number"}
_WORDS = {
    "of": f"one of {', '.join(get_args(Ceiling))}",
    "required": "true, false or 'with-gpu'",
    "topology": "'cable', 'ring' or 'switch'",
}


def _expected(text: str) -> str:
    """``Expected `float | null`, got `str` `` as ``a number``."""
    wanted = re.sub(r", got .*$", "", text.removeprefix("Expected ")).replace(" | null", "")
    if wanted == "Number out of range":
        return "a smaller number"
    wanted = re.sub(r"`([\w |]+)`", lambda m: " or ".join(_TYPES.get(t, t) for t in m[1].split(" | ")), wanted)
    return (
        wanted.replace(" >= ", " of at least ")
        .replace(" <= ", " of at most ")
        .replace(" > ", " above ")
        .replace("of length of", "of length")
    )


def _complain(path: Path, tables: Any, above: str, error: msgspec.ValidationError) -> NoReturn:
    """msgspec's complaint in this project's words: ``FILE: FIELD: found X; expected Y``."""
    text, _, where = str(error).partition(" - at `$")
    inside = [part for part in re.split(r"[.\[\]`]+", where) if part]
    field = ".".join(part for part in (above, *inside) if part)
    if unknown := re.search(r"contains unknown field `(.*)`", text):
        raise BadInput(f"{path}: {_join(field, unknown[1])}: unknown key; see the shipped platform files") from None
    if missing := re.search(r"missing required field `(.*)`", text):
        hint = "expected text that says where the figure was read" if missing[1] == "source" else "expected a value"
        raise BadInput(f"{path}: {_join(field, missing[1])}: missing; {hint}") from None
    named = inside and (text.startswith("Invalid enum") or inside[-1] == "required")
    expected = _WORDS.get(inside[-1], "a known word") if named else _expected(text)
    raise BadInput(f"{path}: {field or 'the file'}: found {_shown(_at(tables, inside))}; expected {expected}") from None


def _join(field: str, name: str) -> str:
    return f"{field}.{name}" if field else name


def _at(tables: Any, inside: list[str]) -> Any:
    for part in inside:
        if isinstance(tables, dict):
            tables = tables.get(part)
        elif isinstance(tables, list) and part.isdigit():
            tables = tables[int(part)]
    return tables


def _shown(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
