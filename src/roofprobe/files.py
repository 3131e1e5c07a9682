"""Files that are either whole or not there: written beside, then renamed."""

from __future__ import annotations

from contextlib import suppress
import os
from pathlib import Path
import tempfile

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


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
