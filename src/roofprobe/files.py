"""Files that are either whole or not there, written beside and then renamed; and reading what a person names."""

from __future__ import annotations

from contextlib import suppress
import errno
import os
from pathlib import Path
import stat
import tempfile
from typing import BinaryIO

from roofprobe.errors import BadInput


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes `path` so that no reader, crash or full disk ever sees a part of it.

    Raises BadInput naming the path and the reason where it can't be written.
    """
    data = content.encode() if isinstance(content, str) else content
    beside: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files for their owner alone; a profile is meant to be shared as any other new file is.
        os.chmod(beside, 0o666 & ~_umask())
        os.replace(beside, path)
    except OSError as error:
        if beside is not None:
            with suppress(FileNotFoundError):
                os.unlink(beside)
        raise BadInput(f"can't write {path}: {error.strerror}; choose another place with --out or -o") from None


def open_regular(path: Path) -> BinaryIO:
    """Opens a file for reading; raises OSError for anything else: opening a FIFO would wait, and a device act."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    kind = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(kind):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is a folder" if stat.S_ISDIR(kind) else "it is no regular file")
    return os.fdopen(descriptor, "rb")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
