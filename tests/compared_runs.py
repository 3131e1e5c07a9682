"""Run folders for tests of comparisons, and what `roofprobe compare` says of two of them."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from records import environment, gemv, timing

from roofprobe.comparison.command import main
from roofprobe.measurement import Ended, Measurement, Record
from roofprobe.run_file import RunWriter

READ_SECONDS = 0.020


def noisy(seconds: float, seed: int = 0, **changes: Any) -> dict[str, Any]:
    """`changes` with 15 samples within 1 % of `seconds`, as a row's fields."""
    draws = Random(seed)
    return {"timing": timing([seconds * draws.uniform(0.99, 1.01) for _ in range(15)], **changes)}


def kernel(slowdown: float = 0.0, read_seconds: float = READ_SECONDS, seed: int = 0, **changes: Any) -> Measurement:
    """A GEMV that takes 1 + slowdown times its share of the reference's time."""
    took = 0.625 * read_seconds * (1 + slowdown)
    return gemv(**{**noisy(took, seed, reference_seconds=(read_seconds,) * 15), **changes})


def write(path: Path, *records: Record, **facts: Any) -> Path:
    """A run's folder."""
    writer = RunWriter(path / "measurements.jsonl")
    for record in (environment(**facts), *records, Ended(seconds=1.0, interrupted=False)):
        writer.write(record)  # type: ignore[arg-type]
    writer.close()
    return path


def compared(capsys: pytest.CaptureFixture[str], base: Path, new: Path) -> tuple[int, dict[str, Any]]:
    status = main([str(base), str(new), "--json"])
    printed = capsys.readouterr()
    document: dict[str, Any] = json.loads(printed.out)
    assert document["exit_status"] == status
    return status, document


def verdicts(document: dict[str, Any]) -> list[str]:
    return [case["verdict"] for case in document["cases"]]
