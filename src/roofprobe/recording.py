"""Recordings: a machine's /sys, /proc and /etc in one JSON file.

A recording is ``{"tree": {PATH: entry}}`` with one entry a path: ``{"dir": 1}``, ``{"link": TARGET}``,
``{"data": TEXT}``, or ``{"errno": NUMBER, "err": TEXT}`` for a file that could not be read. A folder can't hold the
last, which is why recordings exist: much of sysfs answers EINVAL.
"""

from __future__ import annotations

import errno
from pathlib import Path
import posixpath

import msgspec

from roofprobe.errors import BadInput
from roofprobe.files import open_regular
from roofprobe.tree import MAX_CHILDREN, MAX_LINKS, MAX_TEXT_BYTES, FolderTree, Tree

MAX_RECORDING_BYTES = 64 << 20
MAX_PATH = 4096


class RecordedTree(Tree):
    """A recording's entries. What was recorded beneath a link's own path is found there, as well as at its target."""

    def __init__(self, entries: dict[str, Entry]) -> None:
        self._entries = {_normal(path): entry for path, entry in entries.items()}
        names: dict[str, set[str]] = {}
        for path in self._entries:
            while path != "/":
                parent = posixpath.dirname(path)
                known = names.setdefault(parent, set())
                if posixpath.basename(path) in known:
                    break
                known.add(posixpath.basename(path))
                path = parent
        self._names = names

    def read(self, path: str) -> bytes | int:
        found = self._resolve(path)
        entry = self._entries.get(found)
        if entry is None or entry.data is None:
            if entry is not None and entry.errno:
                return entry.errno
            is_folder = found in self._names or (entry is not None and entry.dir is not None)
            return errno.EISDIR if is_folder else errno.ENOENT
        return entry.data.encode(errors="replace")[:MAX_TEXT_BYTES]

    def children(self, path: str) -> tuple[str, ...]:
        named = self._names.get(_normal(path), set()) | self._names.get(self._resolve(path), set())
        return tuple(sorted(named)[:MAX_CHILDREN])

    def link(self, path: str) -> str | None:
        path = _normal(path)
        entry = self._entries.get(path) or self._entries.get(
            posixpath.join(self._resolve(posixpath.dirname(path)), posixpath.basename(path))
        )
        return None if entry is None else entry.link

    def _resolve(self, path: str) -> str:
        path = _normal(path)
        for _ in range(MAX_LINKS):
            entry = self._entries.get(path)
            if entry is not None and entry.link is None:
                return path
            followed = self._follow(path)
            if followed is None:
                return path
            path = followed
        return path

    def _follow(self, path: str) -> str | None:
        """`path` with the longest part of it that is a link replaced by the link's target; None without a link."""
        upper, rest = path, ""
        while upper != "/":
            entry = self._entries.get(upper)
            if entry is not None and entry.link is not None:
                return _normal(posixpath.join(posixpath.dirname(upper), entry.link, rest))
            rest = posixpath.join(posixpath.basename(upper), rest)
            upper = posixpath.dirname(upper)
        return None


class Entry(msgspec.Struct, frozen=True):
    """One path of a recording; one of `dir`, `link`, `data` and `errno` is set."""

    dir: int | None = None
    link: str | None = None
    data: str | None = None
    errno: int | None = None
    err: str | None = None

    def __post_init__(self) -> None:
        if all(value is None for value in (self.dir, self.link, self.data, self.errno)):
            raise ValueError("expected one of dir, link, data and errno")


class _Recording(msgspec.Struct, frozen=True):
    tree: dict[str, Entry]


def open_tree(path: Path) -> Tree:
    """A recording's tree: of a folder, or of a JSON file. Raises BadInput naming the path and what is wrong with it."""
    if path.is_dir():
        return FolderTree(path)
    try:
        with open_regular(path) as file:
            content = file.read(MAX_RECORDING_BYTES + 1)
    except OSError as error:
        raise BadInput(f"can't read {path}: {error.strerror}; expected a folder or a JSON recording") from None
    if len(content) > MAX_RECORDING_BYTES:
        raise BadInput(f"{path} is larger than {MAX_RECORDING_BYTES >> 20} MiB; is it a recording?")
    try:
        entries = msgspec.json.decode(content, type=_Recording).tree
        if any(len(name) > MAX_PATH for name in entries):
            raise BadInput(f"{path} is no recording: a path is longer than {MAX_PATH} characters")
        return RecordedTree(entries)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(f"{path} is no recording: {error}; expected {{'tree': {{PATH: entry}}}}") from None


def _normal(path: str) -> str:
    return posixpath.normpath("/" + path.lstrip("/"))
