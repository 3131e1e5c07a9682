"""Data that is missing, disturbed, throttled, of another kernel or impossible never passes, and never a traceback."""

from __future__ import annotations

from collections.abc import Callable, Iterator
import copy
import json
from pathlib import Path
import tempfile
from typing import Any

import acceptance_folders as folders
from acceptance_judging import GPU_READ, each, judged, scaled, timing, verdict
from hypothesis import given, settings
from hypothesis import strategies as st
import msgspec
from msgspec.structs import replace
import pytest

from roofprobe.acceptance.folder import accept, read_folder
from roofprobe.acceptance.output import as_text
from roofprobe.ceiling import choose_platform, for_nodes
from roofprobe.errors import BadInput
from roofprobe.run_file import Run

BAD_READS = {
    "missing": each(lambda _: None, **GPU_READ),
    "contended": each(
        lambda m: timing(m, rejected=dict.fromkeys(range(len(m.timing.seconds)), "had 60 % of the CPUs")), **GPU_READ
    ),
    "not checked": each(lambda m: replace(m, wrong=None), **GPU_READ),
    "wrong result": each(lambda m: replace(m, wrong=3), **GPU_READ),
    "the CPU's figure": each(lambda m: replace(m, side="host", backend="host", memory=folders.CPU_MEMORY), **GPU_READ),
    "the host's backend on the device's side": each(lambda m: replace(m, backend="host"), **GPU_READ),
    "torch's kernel": each(lambda m: replace(m, backend="torch"), **GPU_READ),
    "CuPy's kernel": each(lambda m: replace(m, backend="cupy"), **GPU_READ),
    "from the cache": each(lambda m: scaled(m, 0.5), **GPU_READ),
    "labelled hot": each(lambda m: replace(m, residency="hot"), **GPU_READ),
    "a nominal of its own that would allow it": each(
        lambda m: replace(scaled(m, 0.5), nominal_gb_per_s=4800.0), **GPU_READ
    ),
    "no nominal and too fast": each(lambda m: replace(scaled(m, 0.5), nominal_gb_per_s=None), **GPU_READ),
    "no time": each(lambda m: timing(m, seconds=(0.0,) * 15), **GPU_READ),
    "negative times": each(lambda m: timing(m, seconds=tuple(-s for s in m.timing.seconds)), **GPU_READ),
    "no samples": each(lambda m: timing(m, seconds=()), **GPU_READ),
    "too few samples": each(lambda m: timing(m, seconds=m.timing.seconds[:5]), **GPU_READ),
    "no bytes": each(lambda m: replace(m, useful_bytes=0), **GPU_READ),
    "suspiciously fast": each(lambda m: scaled(m, 232 / 250), **GPU_READ),
    "stopped by the time limit": each(
        lambda m: timing(
            m, stopped_by="time-limit", seconds=tuple(s * (1 + 0.01 * (i % 7)) for i, s in enumerate(m.timing.seconds))
        ),
        **GPU_READ,
    ),
}


@pytest.mark.parametrize("name", BAD_READS)
def test_bad_data_never_passes(tmp_path: Path, name: str) -> None:
    acceptance = judged(BAD_READS[name](folders.gb10_run()), tmp_path)
    assert verdict(acceptance, "gpu-read").verdict in ("INCONCLUSIVE", "SKIP"), verdict(acceptance, "gpu-read")
    assert acceptance.exit_status in (1, 3)


def test_one_process_at_the_time_limit_does_not_pass(tmp_path: Path) -> None:
    run = folders.gb10_run()
    first = next(m for m in run.measurements if (m.side, m.op) == ("device", "read"))
    others = [m for m in run.measurements if (m.side, m.op) != ("device", "read")]
    run = replace(run, measurements=(timing(first, stopped_by="time-limit"), *others))
    assert verdict(judged(run, tmp_path), "gpu-read").verdict == "INCONCLUSIVE"


KERNEL = {"side": "device", "op": "gemv", "format": "nvfp4"}


@pytest.mark.parametrize(
    "change",
    [
        each(lambda m: replace(m, backend="torch"), **KERNEL),
        each(lambda m: replace(m, reference=None, reference_bytes=None), **KERNEL),
        each(lambda m: replace(m, reference="copy"), **KERNEL),
        each(lambda m: timing(m, reference_seconds=()), **KERNEL),
        each(lambda m: timing(m, reference_seconds=m.timing.reference_seconds[:3]), **KERNEL),
        each(lambda m: scaled(m, 0.8), **KERNEL),
        each(lambda m: replace(m, batch=4), **KERNEL),
    ],
    ids=["torch's", "unpaired", "paired with a copy", "no pairs", "torn pairs", "faster than memory", "a batch"],
)
def test_a_kernel_without_a_sound_pair_never_passes(tmp_path: Path, change: Callable[[Run], Run]) -> None:
    acceptance = judged(change(folders.gb10_run()), tmp_path)
    assert verdict(acceptance, "gpu-gemv-nvfp4").verdict in ("INCONCLUSIVE", "SKIP")
    assert acceptance.exit_status in (1, 3)


@pytest.mark.parametrize("reason", ["sw_thermal_slowdown", "hw_slowdown", "hw_power_brake_slowdown"])
def test_throttled_data_never_passes(tmp_path: Path, reason: str) -> None:
    acceptance = judged(folders.gb10_run(), tmp_path, telemetry=folders.telemetry_lines(reasons=[reason]))
    device = [c for c in acceptance.checks if c.check.startswith("gpu-")]
    assert device and {c.verdict for c in device} == {"INCONCLUSIVE"}
    assert all("throttled" in (c.reason or "") for c in device)
    assert acceptance.exit_status in (1, 3)


def test_a_throttled_gpu_leaves_the_contention_curve_open(tmp_path: Path) -> None:
    asked = json.loads(folders.telemetry_lines(reasons=["sw_thermal_slowdown"])[0])
    few = [json.dumps(asked), json.dumps({**asked, "t_s": 1.0}), *folders.telemetry_lines()]
    acceptance = judged(folders.gb10_run(), tmp_path, telemetry=few)
    assert "throttled" in (verdict(acceptance, "contention").reason or "")


@pytest.mark.parametrize("fitted", [True, False], ids=["the fitted ceiling", "the most that was reached"])
def test_a_contention_curve_above_nominal_is_impossible(tmp_path: Path, fitted: bool) -> None:
    c = folders.gb10_contention()
    assert c.ceiling is not None
    points = tuple(replace(p, device_bytes=tuple(2 * b for b in p.device_bytes)) for p in c.points)
    ceiling = replace(c.ceiling, gb_per_s=380.0, interval=(370.0, 390.0))
    fast = replace(c, ceiling=ceiling) if fitted else replace(c, points=points, ceiling=None)
    acceptance = judged(replace(folders.gb10_run(), contentions=(fast,)), tmp_path)
    assert verdict(acceptance, "contention").verdict == "INCONCLUSIVE"
    assert [f.id for f in verdict(acceptance, "readings-plausible").faults] == ["reading.implausible"]


@pytest.mark.parametrize("absent", ["sm_clock_mhz", "reasons", "gemv", "copy"])
def test_a_sampling_without_what_shows_a_state_is_open(tmp_path: Path, absent: str) -> None:
    lines = [json.loads(line) for line in folders.telemetry_lines()]
    left = [{k: v for k, v in line.items() if k != absent} for line in lines if line.get("sentinel") != absent]
    acceptance = judged(folders.gb10_run(), tmp_path, telemetry=[json.dumps(line) for line in left])
    assert verdict(acceptance, "telemetry").verdict == "INCONCLUSIVE" and acceptance.exit_status == 3


def test_every_case_has_to_clear_the_limit(tmp_path: Path) -> None:
    """A second shape whose median is above the first's, and whose interval reaches far below the limit."""
    run = folders.gb10_run()
    first = [m for m in run.measurements if (m.side, m.op, m.format) == ("device", "gemv", "bf16")]
    spread = [
        timing(m, seconds=tuple(s * (0.97 if i % 5 else 3) for i, s in enumerate(m.timing.seconds))) for m in first
    ]
    few = [timing(m, seconds=m.timing.seconds[:6], reference_seconds=m.timing.reference_seconds[:6]) for m in spread]
    wide = tuple(replace(m, n=14336) for m in few)
    assert all((m.ceiling_fraction or 0) > 0.98 for m in wide)
    found = verdict(judged(replace(run, measurements=run.measurements + wide), tmp_path), "gpu-gemv-bf16")
    assert found.verdict == "INCONCLUSIVE" and "14336x8192" in (found.reason or "")


def numbers(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of every number in a JSON document, true and false among them."""
    if isinstance(value, dict | list):
        for key, inside in value.items() if isinstance(value, dict) else enumerate(value[:2]):
            yield from numbers(inside, (*path, key))
    elif isinstance(value, int | float):
        yield path


LINES = [json.loads(msgspec.json.encode(r)) for r in folders.records_of(folders.pair_run())]
PLACES = [(at, path) for at, line in enumerate(LINES) for path in numbers(line)]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(PLACES), st.sampled_from([0, -1, 1e300, -1e300, 10**30, None, "x"]))
def test_a_spoilt_number_is_a_verdict_or_one_line_never_a_traceback(
    place: tuple[int, tuple[Any, ...]], value: Any
) -> None:
    at, path = place
    lines = copy.deepcopy(LINES)
    inside = lines[at]
    for key in path[:-1]:
        inside = inside[key]
    inside[path[-1]] = value
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "measurements.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        try:
            acceptance = accept(for_nodes(choose_platform("dgx-spark"), 2), read_folder(folder))
        except BadInput:
            return
        as_text(acceptance)
        assert acceptance.exit_status in (1, 3), "neither doctor nor telemetry: it never passes"


def test_two_runs_in_one_file_are_refused(tmp_path: Path) -> None:
    """A healthy machine's rows must not stand in for another's."""
    folder = folders.save(folders.gb10_run(), tmp_path)
    records = folder / "measurements.jsonl"
    records.write_bytes(2 * records.read_bytes())
    with pytest.raises(BadInput, match="more than one run"):
        read_folder(folder)
