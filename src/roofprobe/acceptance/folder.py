"""A run's folder as an acceptance reads it, and acceptance.json, from which every other output is drawn.

The folder holds measurements.jsonl and, where they were made, doctor.json (as `roofprobe doctor --json` prints it) and
telemetry.jsonl. One that `roofprobe run` made has the first alone.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from roofprobe import __version__
from roofprobe.acceptance.estimates import countable, possible
from roofprobe.acceptance.rules import judge
from roofprobe.acceptance.verdict import Check, Verdict, exit_status, overall
from roofprobe.ceiling import Platform
from roofprobe.errors import NOT_MEASURED, BadInput
from roofprobe.files import write_whole
from roofprobe.finding import Finding
from roofprobe.measurement import CollectiveMeasurement, CollectivePoint
from roofprobe.run_file import Run, read_run
from roofprobe.telemetry import Sampling, read_sampling

SCHEMA = "roofprobe/acceptance/1"
DOCUMENT = "acceptance.json"


class Acceptance(msgspec.Struct, frozen=True, kw_only=True):
    """acceptance.json."""

    schema: str = SCHEMA
    roofprobe: str
    created: str
    """When the run began: UTC, ISO 8601."""
    host: str
    platform: str
    title: str
    nodes: int
    interrupted: bool
    """Whether the run did not come to its own end."""
    verdict: Verdict
    """FAIL with any FAIL; INCONCLUSIVE with an open required check; else PASS."""
    exit_status: int
    checks: tuple[Check, ...]
    faults: tuple[Finding, ...]
    """Of all checks, each once."""

    @property
    def open(self) -> tuple[Check, ...]:
        """Required checks that decided nothing."""
        return tuple(check for check in self.checks if check.open)


class _Doctor(msgspec.Struct):
    faults: tuple[Finding, ...]


class Folder(msgspec.Struct, frozen=True, kw_only=True):
    """What a run's folder holds."""

    run: Run
    findings: tuple[Finding, ...] | None
    """The doctor's; None where it was not asked."""
    sampling: Sampling | None


def read_folder(path: Path) -> Folder:
    """Reads a run's folder. Raises BadInput naming the file, and the line or field, that can't be used."""
    run = read_run(path)
    telemetry = path / "telemetry.jsonl"
    return Folder(
        run=run,
        findings=_findings(path / "doctor.json"),
        sampling=read_sampling(telemetry, run.environment.host) if telemetry.exists() else None,
    )


def _findings(path: Path) -> tuple[Finding, ...] | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Doctor).faults
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadInput(f"can't read {path}: {error.strerror}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(f"{path}: {error}; expected what `roofprobe doctor --json` prints") from None


def accept(platform: Platform, folder: Folder) -> Acceptance:
    """Judges a folder. An acceptance of a run that was cut short never passes."""
    run = folder.run
    checks = judge(platform, run, folder.findings, folder.sampling)
    status = exit_status(checks)
    interrupted = run.ended is None or run.ended.interrupted
    if interrupted:
        status = status or NOT_MEASURED
    return Acceptance(
        roofprobe=__version__,
        created=run.environment.created,
        host=run.environment.host,
        platform=platform.name,
        title=platform.title,
        nodes=platform.nodes,
        interrupted=interrupted,
        verdict=overall(checks),
        exit_status=status,
        checks=checks,
        faults=tuple(dict.fromkeys(fault for check in checks for fault in check.faults)),
    )


def as_json(acceptance: Acceptance) -> str:
    """The document, indented."""
    return msgspec.json.format(msgspec.json.encode(acceptance)).decode() + "\n"


def read_acceptance(directory: Path) -> Acceptance | None:
    """acceptance.json of a folder; None without one. Raises BadInput for one that is none."""
    path = directory / DOCUMENT
    try:
        return msgspec.json.decode(path.read_bytes(), type=Acceptance)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadInput(f"can't read {path}: {error.strerror}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(f"{path}: {error}; `roofprobe accept --from` writes it anew") from None


def write_outputs(directory: Path, acceptance: Acceptance) -> tuple[Path, ...]:
    """Writes acceptance.json, junit.xml and roofprobe.prom, each whole or not at all; returns their paths."""
    from roofprobe.acceptance.junit import as_junit
    from roofprobe.acceptance.prometheus import as_prometheus

    outputs = {
        DOCUMENT: as_json(acceptance),
        "junit.xml": as_junit(acceptance),
        "roofprobe.prom": as_prometheus(acceptance),
    }
    for name, text in outputs.items():
        write_whole(directory / name, text)
    return tuple(directory / name for name in outputs)


def drawable(run: Run) -> Run:
    """The run without what no report can draw: rows and sizes whose times or bytes are none. The checks name those."""

    def points(c: CollectiveMeasurement) -> tuple[CollectivePoint, ...]:
        both = ((p, (*p.out_of_place_seconds, *p.in_place_seconds)) for p in c.points)
        return tuple(p for p, seconds in both if p.bytes > 0 and possible(seconds))

    return msgspec.structs.replace(
        run,
        measurements=tuple(m for m in run.measurements if countable(m)),
        collectives=tuple(msgspec.structs.replace(c, points=points(c)) for c in run.collectives),
    )
