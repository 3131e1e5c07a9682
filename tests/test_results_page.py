"""docs/results.md is what scripts/results_page.py makes of docs/results; a made-up result shows the whole page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from results_model import SCHEMA, read_results
from results_page import FOLDER, page

from roofprobe.kernels.audit_page import page_cells

PAGE = FOLDER.parent / "results.md"


def case(name: str, status: str = "ok", detail: str = "", **figures: Any) -> dict[str, Any]:
    return {"case": name, "status": status, **({"detail": detail} if detail else {}), "figures": figures}


def rate(op: str, backend: str, gb_per_s: float, **figures: Any) -> dict[str, Any]:
    probe = "memory" if op in ("read", "copy") else op
    named = {"side": "device", "probe": probe, "op": op, "format": "nvfp4", "backend": backend, "shape": "8x64"}
    return case(f"{op} by {backend}", **named, gb_per_s=gb_per_s, interval=[gb_per_s - 1, gb_per_s + 1], **figures)


def synthetic(**changes: Any) -> dict[str, Any]:
    """SYNTHETIC: made-up figures of no machine."""
    parts = {
        "correctness": [case("gemv nvfp4 linear, mma", checked=9, wrong=0), case("gemv <b>", "wrong", "first in a|b")],
        "rates": [
            rate("read", "triton", 100.0, nominal_fraction=0.9),
            rate("gemv", "triton", 80.0, ceiling_fraction=0.8),
            rate("gemv", "torch", 40.0, ceiling_fraction=0.4, contended=True),
        ],
        "launch_cost": [case("graph", graph_us=2.5), case("CUPTI", "skipped", "not permitted")],
    }
    return {
        "schema": SCHEMA,
        "created": "2026-01-31T12:00:00+00:00",
        "dry_run": False,
        "machine": {
            "device": "Example <GPU> 9000", "python": "3.12.3", "cuda": "13.0", "versions": "torch 2.11.0", "cpus": 16,
            "modes": "bits, e4m3, mma", "compute_capability": "9.0", "multiprocessors": 132, "l2_bytes": 50 << 20,
            "memory_bytes": 140 << 30, "integrated": False, "devices": 1, "driver": "580.1",
        },
        "parts": [
            {"name": name, "verdict": "ok", "ended": "whole", "seconds": 1.0, "cases": cases}
            for name, cases in parts.items()
        ]
        + [{"name": "tune", "verdict": "UNFINISHED", "ended": "no time left", "seconds": 0.0, "cases": []}],
        **changes,
    }  # fmt: skip


def saved(folder: Path, *documents: Any) -> Path:
    for i, document in enumerate(documents):
        (folder / f"{i}.json").write_text(json.dumps(document))
    return folder


def test_the_page_in_the_documentation_is_made_from_the_results() -> None:
    renew = "renew it with `.venv/bin/python -P scripts/results_page.py > docs/results.md`"
    assert PAGE.read_text() == page(read_results(FOLDER)), renew


def test_without_a_result_it_says_so(tmp_path: Path) -> None:
    """A dry run, another schema's JSON and something that is no object are no result."""
    saved(tmp_path, synthetic(dry_run=True), {"schema": "roofprobe/aa/1", "x": 1}, {"y": 2}, [1])
    text = page(read_results(tmp_path))
    assert "**No GPU has been measured yet.**" in text
    assert "scripts/validate_gpu --out DIR" in text


def test_a_result_is_told_in_full(tmp_path: Path) -> None:
    text = page(read_results(saved(tmp_path, synthetic())))
    assert "No GPU has been measured" not in text
    assert "## Example &lt;GPU&gt; 9000, 2026-01-31" in text
    for line in (
        "| correctness | gemv &lt;b&gt; | WRONG | first in a&#124;b |",
        "| read | triton | 100 | 99 to 101 | 90.0% |  |",
        "| gemv | nvfp4 | 8x64 | triton | 80 | 79 to 81 | 80.0% |  |  |",
        "| gemv | nvfp4 | 8x64 | torch | 40 | 39 to 41 | 40.0% | 0.50 |  |",
        "| launch_cost | graph | graph_us 2.5 |  |",
        "| correctness | gemv nvfp4 linear, mma | 9 | 0 |",
        "| tune | (the part) | no time left |",
        "| launch_cost | CUPTI | not permitted |",
    ):
        assert line in text.splitlines()
    assert "decode modes bits, e4m3, mma" in text


def test_results_are_in_the_order_of_device_and_date(tmp_path: Path) -> None:
    later = synthetic(created="2026-02-01T00:00:00+00:00")
    other = synthetic(machine=synthetic()["machine"] | {"device": "Another"})
    heads = [
        line
        for line in page(read_results(saved(tmp_path, later, synthetic(), other))).splitlines()
        if line[:3] == "## "
    ]
    assert heads == [
        "## Another, 2026-01-31",
        "## Example &lt;GPU&gt; 9000, 2026-01-31",
        "## Example &lt;GPU&gt; 9000, 2026-02-01",
    ]


@pytest.mark.parametrize(
    "changes",
    [{"more": 1}, {"parts": [{"name": "rates"}]}, {"machine": {}}, {"dry_run": "no"}],
    ids=["unknown field", "half a part", "no device", "a text for a truth"],
)
def test_a_malformed_result_is_named(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"0\.json: "):
        read_results(saved(tmp_path, synthetic(**changes)))


NOTES = FOLDER.parent / "tuning-notes.md"
BYTES_A_WEIGHT = {"bf16": 2.0, "fp8": 1.0, "nvfp4": 0.5625, "mxfp4": 0.53125}
GPUS = {"H200": ("90", 4.8e12, 128 * 132 * 1.98e9), "GB10": ("121", 273e9, 54 * 273e9)}
"""cc, bytes a second, lane-instructions a second."""


def test_the_notes_predict_what_the_audited_machine_code_says() -> None:
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in NOTES.read_text().splitlines() if "-w" in line]
    rows = [row for row in rows if row and row[0] in GPUS]
    assert len(rows) == 12
    audited = page_cells((FOLDER.parent / "sass-audit.md").read_text())
    for gpu, kind, version, instructions, floor, issue, prediction, time, outcome in rows:
        cc, bandwidth, slots = GPUS[gpu]
        name = f"gemv-{kind}-k4096-batch1"
        found = {cell[5].split()[0] for cell in audited if cell[1:3] == (cc, version) and cell[0].startswith(name)}
        assert instructions in found, (gpu, kind, version)
        weights = 28672 * 8192
        floor_seconds = weights * BYTES_A_WEIGHT[kind] / bandwidth
        issue_seconds = weights * {"bf16": 2.0, "fp8": 1.0}.get(kind, 0.5) * float(instructions) / slots
        assert (float(floor), float(issue)) == (round(floor_seconds * 1e6, 1), round(issue_seconds * 1e6, 1))
        share = f"issue binds, {floor_seconds / issue_seconds:.2f} of nominal at most"
        assert prediction == ("memory binds" if floor_seconds > issue_seconds else share)
        assert (time, outcome) == ("not measured", "") or read_results(FOLDER), "a time needs a result"
