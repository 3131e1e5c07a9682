"""Reads /sys, /proc and /etc: of this machine, or of a folder that mirrors another's; for JSON see `recording.py`.

What a file says comes from outside and may be hostile, so nothing here ever raises for it. A missing, unreadable or
oversized thing is None or empty; a link is followed inside the tree only, never out of it; reads are bounded and
never wait, whatever a path turns out to be.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
import errno
import os
from pathlib import Path
import posixpath
import re
import stat

MAX_TEXT_BYTES = 1 << 20
"""The largest file that is read; /proc/net/route of a large router is a tenth of it."""
MAX_CHILDREN = 4096
MAX_LINKS = 40
_NOTHING_THERE = frozenset({errno.ENOENT, errno.ENOTDIR})


class Tree(ABC):
    """A file tree under absolute paths such as ``/sys/class/net``, wherever it is really kept."""

    @abstractmethod
    def read(self, path: str) -> bytes | int:
        """The file's first MAX_TEXT_BYTES, or the errno that reading it gave."""

    @abstractmethod
    def children(self, path: str) -> tuple[str, ...]:
        """Names in a folder, sorted; at most MAX_CHILDREN; empty for anything else."""

    @abstractmethod
    def link(self, path: str) -> str | None:
        """Where a symbolic link points, as it is written; None for anything else."""

    def text(self, path: str) -> str | None:
        """The file's text without white space around it; None where it is absent, unreadable or empty."""
        found = self.read(path)
        return None if isinstance(found, int) else found.decode(errors="replace").strip() or None

    def number(self, path: str) -> int | None:
        """The whole decimal number that is all of the file; None for anything else."""
        found = re.fullmatch(r"-?[0-9]{1,20}", self.text(path) or "")
        return None if found is None else int(found[0])

    def numbers(self, path: str) -> dict[str, int]:
        """Name -> number of every file in a folder that holds one: a folder of counters."""
        found = {name: self.number(f"{path}/{name}") for name in self.children(path)}
        return {name: value for name, value in found.items() if value is not None}

    def is_folder(self, path: str) -> bool:
        """Whether there is a folder, though it may be empty."""
        return self.read(path) == errno.EISDIR

    def unreadable(self, path: str) -> int | None:
        """The errno of a file that is there and can't be read; None for one that can, or that is not there."""
        found = self.read(path)
        return found if isinstance(found, int) and found not in _NOTHING_THERE else None


class FolderTree(Tree):
    """The tree under `root`: ``/`` for this machine, or a folder that mirrors another's."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, path: str) -> bytes | int:
        real = self._resolve(path)
        if isinstance(real, int):
            return real
        try:
            # A folder may hold a FIFO or a device, whose opening would wait or act.
            descriptor = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            return error.errno or errno.EIO
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return errno.EISDIR
            with open(descriptor, "rb", closefd=False) as file:
                return file.read(MAX_TEXT_BYTES)
        except OSError as error:
            return error.errno or errno.EIO
        finally:
            os.close(descriptor)

    def children(self, path: str) -> tuple[str, ...]:
        real = self._resolve(path)
        if isinstance(real, int):
            return ()
        try:
            return tuple(sorted(name for name in os.listdir(real) if _is_text(name))[:MAX_CHILDREN])
        except OSError:
            return ()

    def link(self, path: str) -> str | None:
        parent = self._resolve(posixpath.dirname(path.rstrip("/")))
        if isinstance(parent, int):
            return None
        try:
            target = os.readlink(os.path.join(parent, posixpath.basename(path.rstrip("/"))))
        except (OSError, ValueError):
            return None
        return target if _is_text(target) else None

    def _resolve(self, path: str) -> str | int:
        """The real path, free of links, or an errno. An absolute target starts at the root, and ``..`` ends there."""
        parts = _parts(path)
        done: list[str] = []
        links = 0
        while parts:
            part = parts.pop(0)
            if part == "..":
                if done:
                    done.pop()
                continue
            real = os.path.join(self.root, *done, part)
            try:
                target = os.readlink(real) if stat.S_ISLNK(os.lstat(real).st_mode) else None
            except OSError as error:
                return error.errno or errno.EIO
            except ValueError:
                return errno.ENOENT
            if target is None:
                done.append(part)
                continue
            links += 1
            if links > MAX_LINKS:
                return errno.ELOOP
            if target.startswith("/"):
                done = []
            parts = _parts(target) + parts
        return os.path.join(self.root, *done)


def this_machine() -> Tree:
    """The tree that this process sees: a container's own, where it runs in one."""
    return FolderTree(Path("/"))


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _is_text(name: str) -> bool:
    """Whether a name, or a link's target, is UTF-8: one that is not could be neither printed nor written to JSON."""
    return not any("\ud800" <= character <= "\udfff" for character in name)
