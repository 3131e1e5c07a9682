"""What a machine holds up under sustained load: sentinels before, during and after it, alone and together.

In order: the GPU under load, with a matrix product held against the SM clock that it had; GPU and CPU under load at
once; the CPU under load; then the contention curve, the rate at which both read alone and together. While the GPU is
under load NVML is sampled ten times a second (telemetry.jsonl); records reach the disk as they are made
(measurements.jsonl). A fault that comes every half hour needs ``--soak 35m``. Without a GPU the CPU's sentinels run
alone, and say so. The GPU's part is tested with a CPU that plays the GPU, and has never run on one so far.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
import sys
from threading import Event, Lock
import time
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from roofprobe.arguments import duration, parser, size
from roofprobe.console import Console
from roofprobe.errors import NOT_MEASURED, OK, BadInput, run_command
from roofprobe.load_record import Contention, MatmulRate, SentinelRun
from roofprobe.measurement import Ended, Environment, Side, Skipped
from roofprobe.probes.run import default_folder
from roofprobe.probes.sentinel_load import LoadedSide, every_sentinel, matmul_rate, prepare, sustain
from roofprobe.probes.sentinel_output import as_json, during_lines, line_of, load_status
from roofprobe.run_file import RunWriter, read_run
from roofprobe.telemetry_sampler import Sampler

if TYPE_CHECKING:
    from roofprobe.probes.memory import StreamBuffers
    from roofprobe.probes.sides import MeasuredSide

LoadRecord = SentinelRun | MatmulRate | Contention | Skipped
OnRecord = Callable[[LoadRecord], None]

ARRAYS = 2
"""A copy's; the GEMV's weights and the product's matrices take the room of a third."""
LEAST_SECONDS = 0.1


@dataclass(frozen=True)
class LoadPlan:
    """How long each part lasts, in seconds."""

    load: float
    """Under load: the GPU, or the CPU where there is no GPU."""
    beside: float
    """Under load: the CPU by itself beside a GPU, and both together."""
    matmul: float
    """At most, for the product's own rate."""
    contention: float
    """Each case of the contention curve, in each round."""
    rounds: int


def plan(seconds: float) -> LoadPlan:
    """A load of `seconds`; what is not the GPU's own load does not grow with a soak."""
    return LoadPlan(
        load=seconds,
        beside=min(seconds, 20),
        matmul=min(seconds, 5),
        contention=min(seconds / 10, 1),
        rounds=3 if seconds >= 5 else 2,
    )


def measure_sentinels(
    environment: Environment,
    sides: list[MeasuredSide],
    todo: LoadPlan,
    telemetry: Path,
    on_step: Callable[[str], None],
    on_record: OnRecord,
) -> None:
    """Runs everything on `sides` and hands each record on as it is made; samples go to the file `telemetry`.

    Raises BadInput where that file can't be made. An interruption ends the load and leaves every line that was made.
    """
    from roofprobe.probes.memory import allocate

    lock = Lock()

    def record(made: LoadRecord) -> None:
        with lock:  # two sides under load at once
            on_record(made)

    sides = sorted(sides, key=lambda side: side.side)  # the device first
    host_only = sides[0].side == "host"
    buffers = {side.side: allocate(side, ARRAYS) for side in sides}
    sampler = Sampler(telemetry, None if host_only else _uuid())
    try:
        # Compiling and warming up come before the sampling, whose GPU would be idle meanwhile.
        loaded = [_prepared(side, buffers[side.side], sampler, record, host_only) for side in sides]
        with sampler:
            _alone(loaded[0], environment, todo, on_step, record)
            _together(loaded, todo, on_step, record)
            sampler.end_samples()
            for each in loaded[1:]:
                _alone(each, environment, todo, on_step, record)
            record(_contention(environment, sides, buffers, todo, on_step))
    finally:
        if sampler.problem is not None:
            record(Skipped(probe="telemetry", case="NVML samples", reason=sampler.problem))


def _uuid() -> str:
    import torch

    found = str(torch.cuda.get_device_properties(0).uuid)
    return found if found.startswith(("GPU-", "MIG-")) else f"GPU-{found}"


def _prepared(
    side: MeasuredSide, buffers: StreamBuffers, sampler: Sampler, record: OnRecord, host_only: bool
) -> LoadedSide:
    from roofprobe.probes.sentinel_cases import make_sentinels

    cases, skipped = make_sentinels(side, buffers)
    for each in skipped:
        record(each)
    return prepare(side, cases, sampler, record, in_telemetry=side.side == "device" or host_only)


def _alone(
    loaded: LoadedSide, environment: Environment, todo: LoadPlan, on_step: Callable[[str], None], record: OnRecord
) -> None:
    seconds = todo.load if loaded.in_telemetry else todo.beside
    on_step(f"{loaded.side.side}: sentinels, then {seconds:g} s of load")
    every_sentinel(loaded, "before")
    sustain(loaded, seconds)
    rate = matmul_rate(loaded, environment, todo.matmul)
    if rate is not None:
        record(rate)
    every_sentinel(loaded, "after")


def _together(loaded: list[LoadedSide], todo: LoadPlan, on_step: Callable[[str], None], record: OnRecord) -> None:
    """Both sides under load at once; the GPU's from a thread of its own, the CPU's kernels from this one."""
    if len(loaded) < 2:
        reason = f"only the {loaded[0].side.side} side is measured"
        record(Skipped(probe="sentinels", case="GPU and CPU together", reason=reason))
        return
    device, host = loaded
    on_step(f"device and host together: {todo.beside:g} s of load")
    stop = Event()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(sustain, device, todo.beside, f"{host.cases[host.load].name} on the CPU", stop)
        try:
            sustain(host, todo.beside, f"{device.cases[device.load].name} on the GPU")
        finally:
            stop.set()
        running.result()


def _contention(
    environment: Environment,
    sides: list[MeasuredSide],
    buffers: dict[Side, StreamBuffers],
    todo: LoadPlan,
    on_step: Callable[[str], None],
) -> Contention | Skipped:
    from roofprobe.probes.contention_curve import make_reader, measure_contention

    readers = {side.side: make_reader(side, buffers[side.side]) for side in sides}
    if "host" not in readers:
        reason = "the curve needs the CPU's threads, and only the device side is measured"
        return Skipped(probe="contention", case="GPU and CPU together", reason=reason)
    shared = "device" not in readers or environment.devices[0].integrated
    return measure_contention(readers.get("device"), readers["host"], todo.contention, todo.rounds, shared, on_step)


def main(argv: list[str] | None = None) -> int:
    """Runs ``roofprobe sentinels``; returns the exit status."""
    top = parser("roofprobe sentinels", "Sentinels before, during and after a sustained load, with telemetry.")
    top.add_argument("--side", choices=["all", "device", "host"], default="all", help="GPU, CPU or both (default)")
    long = top.add_mutually_exclusive_group()
    long.add_argument("--seconds", type=duration, default=10.0, help="sustained load on a side (default 10)")
    long.add_argument("--soak", type=duration, metavar="TIME", help="a load that long on the GPU, e.g. 35m")
    top.add_argument("--out", type=Path, metavar="DIR", help="folder for the results (default results/TIME-HOST)")
    top.add_argument(
        "--memory", type=size, metavar="SIZE", help="most memory to use (default: a quarter of what is available)"
    )
    top.add_argument("--json", action="store_true", help="print one JSON document on stdout, rows on stderr")
    arguments = top.parse_args(argv)
    seconds = arguments.seconds if arguments.soak is None else arguments.soak
    if seconds < LEAST_SECONDS:
        top.error(f"argument --seconds: {seconds:g} is below {LEAST_SECONDS}: too short for a load")
    return run_command(lambda: _run(arguments, plan(seconds)), "roofprobe sentinels")


def _run(arguments: argparse.Namespace, todo: LoadPlan) -> int:
    from roofprobe.environment import read_environment
    from roofprobe.probes.sides import find_sides

    start = time.perf_counter()
    out = arguments.out or default_folder()
    if (out / "measurements.jsonl").exists():
        raise BadInput(f"{out} already holds a run: choose another folder with --out")
    environment = read_environment()
    sides, skipped = find_sides(environment, arguments.side, arguments.memory)
    console = Console(sys.stderr if arguments.json else sys.stdout)
    writer = RunWriter(out / "measurements.jsonl")
    writer.write(environment)

    def on_record(made: LoadRecord) -> None:
        writer.write(made)
        line = line_of(made)
        if line is not None:
            console.line(line)

    interrupted = False
    try:
        for each in skipped:
            on_record(replace(each, probe="sentinels"))
        for side in sides:
            console.line(side.ceiling_line())
        measure_sentinels(environment, sides, todo, out / "telemetry.jsonl", console.step, on_record)
    except KeyboardInterrupt:
        interrupted = True
    writer.write(Ended(seconds=time.perf_counter() - start, interrupted=interrupted))
    writer.close()
    run = read_run(out)
    for line in during_lines(run):
        console.line(line)
    console.line(f"records    {out / 'measurements.jsonl'}")
    console.line(f"telemetry  {out / 'telemetry.jsonl'}")
    if arguments.json:
        print(msgspec.json.format(msgspec.json.encode(as_json(run, out))).decode())
    return load_status(run) or (NOT_MEASURED if interrupted else OK)


if __name__ == "__main__":
    raise SystemExit(main())
