"""The kinds of memory that a CUDA program can ask for, each read by the GPU and by the CPU; `memory_blocks` names them.

The GPU reads through CUDA C++ (CuPy), the CPU through the host's read kernel; both sum 32-bit words exactly, and the
sum is checked against data that follow from the index. What a machine does not support is skipped with the error that
it gave. Each kind is allocated, read and freed before the next. The GPU's reads are written against CuPy 14 and have
never run on a GPU so far.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib.util import find_spec
import sys
from typing import TYPE_CHECKING

import msgspec

from roofprobe.arguments import duration, parser, size
from roofprobe.console import HEADER, Console
from roofprobe.errors import NOT_MEASURED, OK, CannotMeasure, run_command
from roofprobe.measurement import Environment, Measurement, Side, Skipped, exit_status, figures
from roofprobe.probes.command import shown_rows
from roofprobe.probes.configs import config_record, stream_config
from roofprobe.probes.memory import CHECKED_SEEDS, POISON, WITHOUT_CUPY
from roofprobe.probes.memory_blocks import KINDS, Block, allocated
from roofprobe.timing import Launch, measure

if TYPE_CHECKING:
    import torch

    from roofprobe.probes.sides import MeasuredSide

SIDES: tuple[Side, ...] = ("device", "host")
NO_HOST_ADDRESS = "the CPU has no address for memory of cudaMalloc"
NOT_PAGEABLE = "cudaDevAttrPageableMemoryAccess is 0: this GPU can't read pageable memory"


def probe_kinds(
    environment: Environment,
    sides: list[MeasuredSide],
    missing: dict[Side, str],
    seconds: float,
    on_step: Callable[[str], None],
    on_result: Callable[[Measurement | Skipped], None],
) -> None:
    """Reads every kind from every one of `sides`, each within `seconds`. `missing`: why a side is not among them."""
    measured = {side.side: side for side in sides}
    without = missing.get("device") or (WITHOUT_CUPY if find_spec("cupy") is None else None)
    for kind in KINDS:
        on_step(f"{kind} memory")
        try:
            if kind != "pageable" and without is not None:
                raise CannotMeasure(without)
            with allocated(kind, environment, sides) as block:
                for name in SIDES:
                    if name in missing:
                        on_result(_skipped(kind, name, missing[name]))
                    else:
                        on_result(_attempt(block, measured[name], environment, without, seconds))
        except Exception as error:  # noqa: BLE001 - CuPy and the driver have errors of many types
            for name in SIDES:
                on_result(_skipped(kind, name, _told(error)))


def _why_not(block: Block, side: Side, without: str | None) -> str | None:
    """Why one side can't read a block, where that is known beforehand."""
    if side == "host":
        return NO_HOST_ADDRESS if block.on_host is None else None
    if without is not None:
        return without
    return NOT_PAGEABLE if block.kind == "pageable" and not reads_pageable() else None


def reads_pageable() -> bool:
    """Whether the GPU can read memory that CUDA has not allocated."""
    from cupy.cuda import runtime

    return bool(runtime.deviceGetAttribute(runtime.cudaDevAttrPageableMemoryAccess, 0))


def _attempt(
    block: Block, side: MeasuredSide, environment: Environment, without: str | None, seconds: float
) -> Measurement | Skipped:
    try:
        why_not = _why_not(block, side.side, without)
        if why_not is not None:
            return _skipped(block.kind, side.side, why_not)
        if side.side == "device":
            return _read_by_device(block, side, environment, seconds)
        return _read_by_host(block, side, seconds)
    except Exception as error:  # noqa: BLE001 - CuPy, NVRTC and the driver have errors of many types
        return _skipped(block.kind, side.side, _told(error))


def _read_by_device(block: Block, side: MeasuredSide, environment: Environment, seconds: float) -> Measurement:
    import torch

    from roofprobe.kernels import stream_cupy

    out = torch.empty(stream_cupy.partials_of(side.device), dtype=torch.int32, device=side.device)
    m = _measured(block, side, lambda _: stream_cupy.read_at(block.address, block.n, out), out, seconds)
    # What a card with memory of its own reads over the bus does not have its memory's ceiling.
    local = environment.devices[0].integrated or block.kind in ("device", "managed")
    nominal = side.nominal_gb_per_s if local else None
    return msgspec.structs.replace(m, backend="cupy", nominal_gb_per_s=nominal)


def _read_by_host(block: Block, side: MeasuredSide, seconds: float) -> Measurement:
    from roofprobe.kernels import stream

    array = block.on_host
    assert array is not None
    config = stream_config(side)
    out = stream.read(array, config=config)
    m = _measured(block, side, lambda _: stream.read(array, out=out, config=config), out, seconds)
    return msgspec.structs.replace(m, config=config_record(config))


def _measured(block: Block, side: MeasuredSide, launch: Launch, out: torch.Tensor, seconds: float) -> Measurement:
    from roofprobe.kernels.stream_check import count_wrong

    timing = measure(launch, side.stopwatch, side.limits(seconds), poison=lambda: out.fill_(int(POISON)))
    return Measurement(
        probe="memory-kinds",
        op="read",
        format=block.kind,
        n=block.n,
        side=side.side,
        memory=side.memory,
        backend=side.backend,
        useful_bytes=4 * block.n,
        estimated_bus_bytes=4 * block.n,
        timing=timing,
        nominal_gb_per_s=side.nominal_gb_per_s,
        wrong=count_wrong("read", out, block.n, CHECKED_SEEDS["read"]),
    )


def _skipped(kind: str, side: Side, reason: str) -> Skipped:
    return Skipped(probe="memory-kinds", case=f"{kind} memory read by the {side} side", reason=reason)


def _told(error: Exception) -> str:
    text = " ".join(str(error).split())[:200]
    return text if isinstance(error, CannotMeasure) else f"{type(error).__name__}: {text}"


def main(argv: list[str] | None = None) -> int:
    """Runs ``roofprobe memory-kinds``; returns the exit status: 3 where a GPU could read no kind."""
    top = parser("roofprobe memory-kinds", "Device, pinned, managed and pageable memory, read by GPU and CPU.")
    top.add_argument("--seconds", type=duration, default=5.0, help="most time for one row (default 5)")
    top.add_argument(
        "--memory", type=size, metavar="SIZE", help="most memory to use (default: a quarter of what is available)"
    )
    top.add_argument("--json", action="store_true", help="print one JSON document on stdout, rows on stderr")
    arguments = top.parse_args(argv)
    return run_command(lambda: _run(arguments), "roofprobe memory-kinds")


def _run(arguments: argparse.Namespace) -> int:
    from roofprobe.environment import read_environment
    from roofprobe.probes.sides import find_sides

    environment = read_environment()
    sides, without = find_sides(environment, "all", arguments.memory)
    missing: dict[Side, str] = {"device" if "device" in each.case else "host": each.reason for each in without}
    console = Console(sys.stderr if arguments.json else sys.stdout)
    results, left_out, on_result = shown_rows(console)
    for side in sides:
        console.line(side.ceiling_line())
    console.line(HEADER)
    try:
        with console.progress(len(KINDS)):
            probe_kinds(environment, sides, missing, arguments.seconds, console.step, on_result)
    finally:
        if arguments.json:
            rows = [figures(m) for m in results]
            document = {"environment": environment, "measurements": rows, "skipped": left_out}
            print(msgspec.json.format(msgspec.json.encode(document)).decode())
    by_gpu = any(m.side == "device" for m in results)
    return exit_status(results) or (OK if by_gpu else NOT_MEASURED)


if __name__ == "__main__":
    raise SystemExit(main())
