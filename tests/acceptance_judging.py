"""Judging a SYNTHETIC run's folder in a test, and changing its rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import acceptance_folders as folders
from msgspec.structs import replace

from roofprobe.acceptance.folder import Acceptance, accept, read_folder
from roofprobe.acceptance.verdict import Check
from roofprobe.ceiling import choose_platform, for_nodes
from roofprobe.measurement import Measurement
from roofprobe.run_file import Run

GPU_READ = {"side": "device", "op": "read"}


def judged(run: Run, folder: Path, platform: str = "dgx-spark", nodes: int = 1, **saved: Any) -> Acceptance:
    return accept(for_nodes(choose_platform(platform), nodes), read_folder(folders.save(run, folder, **saved)))


def verdict(acceptance: Acceptance, name: str) -> Check:
    (found,) = (check for check in acceptance.checks if check.check == name)
    return found


def each(change: Callable[[Measurement], Measurement | None], **keys: Any) -> Callable[[Run], Run]:
    """A change of the rows that have these fields."""

    def changed(m: Measurement) -> Measurement | None:
        return change(m) if all(getattr(m, name) == value for name, value in keys.items()) else m

    return lambda run: folders.with_rows(run, changed)


def timing(m: Measurement, **changes: Any) -> Measurement:
    return replace(m, timing=replace(m.timing, **changes))


def scaled(m: Measurement, factor: float) -> Measurement:
    return timing(m, seconds=tuple(factor * s for s in m.timing.seconds))
