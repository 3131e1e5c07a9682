"""What an acceptance measures: the doctor first, then every case in several fresh processes, then the load.

Each part is a process of its own that writes a run's file; its records are taken over into the acceptance's folder
when it ends, and also when it is interrupted or dies. What a part could not do is a `Skipped` record, never silence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
import ctypes
from dataclasses import dataclass
import os
from pathlib import Path
import signal
import subprocess
import sys
import tempfile
import time

import msgspec

from roofprobe.acceptance.limits import CHECKS
from roofprobe.ceiling import Platform
from roofprobe.console import Console, row, skipped_line
from roofprobe.errors import RoofprobeError
from roofprobe.files import write_whole
from roofprobe.measurement import CollectiveMeasurement, Ended, Environment, Measurement, Side, Skipped
from roofprobe.probes.accept_rows import KINDS, PATTERNS, ROWS
from roofprobe.run_file import AnyRecord, RunWriter, read_run

END_SECONDS = 20.0
"""How long an interrupted part may take to write what it has."""
_SIDE: dict[Side, str] = {"device": "gpu", "host": "cpu"}


@dataclass(frozen=True)
class Depth:
    """How much to measure."""

    processes: int
    row_seconds: float
    """Most time for one row of one process."""
    load_seconds: float
    """Of sustained load on the GPU, or the CPU where there is none."""
    small: bool = False
    kinds_seconds: float | None = None
    """For each memory kind; None: not measured."""
    largest_message: str = "512M"
    collective_seconds: float = 60
    """Of each collective: no size is begun that would not end within it."""


QUICK = Depth(processes=2, row_seconds=0.5, load_seconds=1.5, small=True, largest_message="128M", collective_seconds=8)
DEFAULT = Depth(processes=3, row_seconds=3, load_seconds=45, kinds_seconds=2)


@dataclass(frozen=True)
class Part:
    """One process of the acceptance."""

    title: str
    probe: str
    """Of the `Skipped` record where it fails."""
    arguments: tuple[str, ...]
    """Of ``python -m``; `{folder}` stands for a folder of its own, in which it writes measurements.jsonl."""


def parts(platform: Platform, environment: Environment, depth: Depth, memory: int | None) -> Iterator[Part]:
    """Every process, in order; rows that no check of the platform asks for are left out."""
    limit = () if memory is None else ("--memory", str(memory))
    small = ("--small",) if depth.small else ()
    names = [f"{side}:{name}" for side in _sides(environment) for name in wanted(platform, side)]
    flags = ("--seconds", str(depth.row_seconds), *small, *limit)
    for number in range(1, depth.processes + 1) if names else ():
        yield Part(
            f"rows, process {number} of {depth.processes}",
            "run",
            ("roofprobe.probes.accept_rows", "{folder}/measurements.jsonl", *names, *flags),
        )
    load = {"telemetry", "gpu-matmul-bf16", "contention"}
    if any(name in load or "-stable-" in name for name in platform.checks):
        flags = ("--seconds", str(depth.load_seconds), "--out", "{folder}", *limit)
        yield Part(f"{depth.load_seconds:g} s under load", "sentinels", ("roofprobe.probes.sentinels", *flags))
    if KINDS in platform.checks and depth.kinds_seconds is not None:
        flags = ("--seconds", str(depth.kinds_seconds), *limit)
        yield Part(
            "memory kinds",
            KINDS,
            ("roofprobe.probes.accept_rows", "{folder}/measurements.jsonl", KINDS, *flags),
        )


def _sides(environment: Environment) -> tuple[Side, ...]:
    return ("device", "host") if environment.devices else ("host",)


def wanted(platform: Platform, side: Side) -> list[str]:
    """The rows of one side that the platform's checks are judged by, read and copy first: they are the ceilings."""
    of_side = [name.removeprefix(f"{_SIDE[side]}-") for name in platform.checks if name.startswith(_SIDE[side])]
    rows = [name for name in ROWS if name in of_side]
    return [*PATTERNS, *(name for name in rows if name not in PATTERNS)] if rows else []


def collectives_part(platform: Platform, depth: Depth) -> Part | None:
    """This process' rank of the cluster's collectives; None for a platform of one unit."""
    if platform.nodes == 1 or not any(CHECKS[name].cluster for name in platform.checks):
        return None
    # Sizes double from 8 KiB: small enough for the latency that is judged, up to what tells the bandwidth.
    sizes = ("-b", "8K", "-e", depth.largest_message, "-f", "2", "--time-limit", str(depth.collective_seconds))
    flags = ("--collective", "all_reduce,all_gather", *sizes, "--no-link-baseline")
    record = ("--record", "{folder}/record.jsonl")
    return Part("collectives between the nodes", "collectives", ("roofprobe.probes.collectives", *flags, *record))


def run_part(part: Part, out: Path, writer: RunWriter, console: Console, launched: bool = False) -> None:
    """Runs one part and takes its records over, whatever became of it. Ctrl-C ends the part first and goes on."""
    console.step(part.title)
    with tempfile.TemporaryDirectory(prefix=".part-", dir=out) as name:
        folder = Path(name)
        arguments = [argument.replace("{folder}", name) for argument in part.arguments]
        try:
            complaint = _run(arguments, launched)
        finally:
            # Also on the way out: what the part has measured is kept.
            taken = _take_over(folder, out, writer, console)
        if not taken:
            reason = complaint or "it measured nothing and said nothing"
            skipped = Skipped(probe=part.probe, case=part.title, reason=reason)
            writer.write(skipped)
            console.line(skipped_line(skipped))


def _run(arguments: Sequence[str], launched: bool, output: Path = Path(os.devnull)) -> str | None:
    """Runs ``python -m ARGUMENTS`` to its end; its last complaint, where it failed. `output` gets its stdout."""
    # In a session of its own, Ctrl-C reaches this process alone, which ends the part in order.
    with tempfile.TemporaryFile("w+", errors="replace") as said, open(output, "wb") as printed:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            env=_environment(os.environ, launched),
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=said,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
        with _ended(process):
            status = process.wait()
        said.seek(0)
        lines = [line.strip() for line in said if line.strip()]
    return (lines[-1][-500:] if lines else f"it ended with status {status}") if status else None


@contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Whatever happens, the process has ended afterwards: asked first, so that it writes what it has."""
    try:
        yield
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(END_SECONDS)
            except (subprocess.TimeoutExpired, KeyboardInterrupt):
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _die_with_parent() -> None:
    """In the part, before it begins: the kernel ends it when the acceptance dies, even by SIGKILL (Linux only)."""
    if sys.platform.startswith("linux"):
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


_LAUNCHERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "OMP_NUM_THREADS")


def _environment(base: Mapping[str, str], launched: bool) -> dict[str, str]:
    """A launcher's variables are for the collectives alone: torchrun's OMP_NUM_THREADS=1 would slow a CPU's rows."""
    if launched or "RANK" not in base:
        return dict(base)
    return {name: value for name, value in base.items() if name not in _LAUNCHERS}


def _take_over(folder: Path, out: Path, writer: RunWriter, console: Console) -> bool:
    """Whether the part left any record."""
    record = folder / "record.jsonl"
    taken = record.exists()
    for line in record.read_bytes().splitlines() if taken else ():
        writer.write(msgspec.json.decode(line, type=CollectiveMeasurement))
    if (folder / "telemetry.jsonl").exists():
        os.replace(folder / "telemetry.jsonl", out / "telemetry.jsonl")
    if not (folder / "measurements.jsonl").exists():
        return taken
    try:
        run = read_run(folder)
    except RoofprobeError:
        return taken
    records: list[AnyRecord] = [*run.measurements, *run.sentinels, *run.matmuls, *run.contentions, *run.skipped]
    for each in records:
        writer.write(each)
        taken = True
        if isinstance(each, Measurement):
            console.line(row(each))
        elif isinstance(each, Skipped):
            console.line(skipped_line(each))
    return taken


def measure(
    platform: Platform,
    environment: Environment,
    depth: Depth,
    out: Path,
    memory: int | None,
    console: Console,
    rank: int | None,
    local_rank: int | None,
) -> None:
    """Measures all that `platform` asks for into `out`; Ctrl-C keeps what there is and says so in the records.

    `rank`: under a launcher, whose first process of each host measures its own unit after the collectives.
    """
    start = time.perf_counter()
    writer = RunWriter(out / "measurements.jsonl")
    interrupted = False
    try:
        writer.write(environment)
        together = collectives_part(platform, depth) if rank is not None else None
        alone = [] if local_rank else list(parts(platform, environment, depth, memory))
        with console.progress(1 + len(alone) + (together is not None)):
            console.step("doctor")
            compared = rank is not None and platform.nodes > 1 and _compare_nodes(out)
            if not compared:
                ask_doctor(platform, out)
            if not environment.devices and any(name.startswith("gpu-") for name in platform.checks):
                writer.write(Skipped(probe="run", case="device side", reason="torch finds no CUDA device"))
            if together is not None:
                run_part(together, out, writer, console, launched=True)
            for part in alone:
                run_part(part, out, writer, console)
    except KeyboardInterrupt:
        interrupted = True
    writer.write(Ended(seconds=time.perf_counter() - start, interrupted=interrupted))
    writer.close()


def ask_doctor(platform: Platform, out: Path) -> None:
    """What the doctor says of this machine before any load, as doctor.json."""
    from roofprobe.doctor.diagnosis import diagnose
    from roofprobe.doctor.inputs import Given, read_case
    from roofprobe.doctor.output import as_json, gather_facts

    case = read_case(Given(platform=platform if platform.match.gpu else None))
    write_whole(out / "doctor.json", as_json(diagnose(case), gather_facts(case)) + "\n")


def _compare_nodes(out: Path) -> bool:
    """The doctor's comparison of every node with every other, which rank 0 prints; whether this process has it."""
    with tempfile.TemporaryDirectory(prefix=".part-", dir=out) as name:
        document = Path(name) / "doctor.json"
        _run(["roofprobe.probes.doctor", "--json"], launched=True, output=document)
        try:
            msgspec.json.decode(document.read_bytes(), type=dict[str, object])
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return False
        os.replace(document, out / "doctor.json")
    return True
