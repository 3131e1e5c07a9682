"""Memory bandwidth: read, copy, write and triad, on the GPU and on the CPU.

    read   sum of x[i]            4 bytes an element
    copy   y[i] = x[i]            8
    write  y[i] = f(i)            4
    triad  a[i] = b[i] + s*c[i]  12

Arrays exceed the last-level cache fourfold. Copy, write and triad are paired with read, which leaves their outputs as
they were timed. Inputs depend on the index and never repeat; outputs are poisoned before the
timing and checked, every element, after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
import os
from typing import TYPE_CHECKING

from roofprobe.arguments import parser
from roofprobe.environment import core_types
from roofprobe.measurement import Measurement, Skipped
from roofprobe.probes.command import add_flags, run_probe
from roofprobe.probes.configs import allocates_on_write, config_record, stream_config
from roofprobe.timing import Launch, measure

if TYPE_CHECKING:
    import torch

    from roofprobe.probes.sides import MeasuredSide

SEEDS = (0x51ED270B, 0x2545F491, 0x9E3779B9)
"""Of the arrays a, b and c when they are first filled."""
WRITE_SEED = 0x7F4A7C15
CHECKED_SEEDS = {"read": SEEDS[1:2], "copy": SEEDS[1:2], "write": (WRITE_SEED,), "triad": SEEDS[1:3]}
"""What each pattern's result follows from."""
SCALAR = 3.0
"""Inputs are whole numbers below 2^20, so b + 3c is exact in float32 whatever the order."""
POISON = -7.0
WITHOUT_CUPY = (
    "CuPy is not installed; pip install 'roofprobe[cuda13]' (driver for CUDA 13) or 'roofprobe[cuda12]' (for CUDA 12)"
)
OPS = ("read", "copy", "write", "triad")


@dataclass(frozen=True)
class StreamBuffers:
    """The arrays of one side: `a` is written, `b` and `c` are read; `c` is there while triad is measured."""

    a: torch.Tensor
    b: torch.Tensor
    c: torch.Tensor | None

    @property
    def n(self) -> int:
        return self.a.numel()

    @property
    def n_bytes(self) -> int:
        return 4 * self.n

    def without_c(self) -> StreamBuffers:
        """The same arrays but for `c`, whose memory is then free."""
        return StreamBuffers(self.a, self.b, None)


def allocate(side: MeasuredSide, arrays: int = 3) -> StreamBuffers:
    """Two or three float32 arrays, filled; first touched by the threads that will use them."""
    from roofprobe.kernels import stream

    made = [_empty(side) for _ in range(arrays)]
    for array, seed in zip(made, SEEDS, strict=False):
        stream.fill(array, seed)
    return StreamBuffers(made[0], made[1], made[2] if arrays == 3 else None)


def _empty(side: MeasuredSide) -> torch.Tensor:
    import torch

    if side.side == "host":
        from roofprobe.kernels import host_memory

        return host_memory.allocate(side.array_bytes).view(torch.float32)
    return torch.empty(side.array_bytes // 4, dtype=torch.float32, device=side.device)


def launches(side: MeasuredSide, buffers: StreamBuffers) -> tuple[dict[str, Launch], dict[str, torch.Tensor]]:
    """The patterns over one set of buffers, and the tensor that each leaves its result in."""
    import torch

    from roofprobe.kernels import stream

    a, b, c = buffers.a, buffers.b, buffers.c
    config = stream_config(side)
    bits = a.view(torch.int32)
    partial_sums = stream.read(b, config=config)
    run: dict[str, Launch] = {
        "read": lambda _: stream.read(b, out=partial_sums, config=config),
        "copy": lambda _: stream.copy(b, out=a, config=config),
        "write": lambda _: stream.write(bits, WRITE_SEED, config=config),
    }
    if c is not None:
        run["triad"] = lambda _: stream.triad(b, c, SCALAR, out=a, config=config)
    return run, {"read": partial_sums, "copy": a, "write": bits, "triad": a}


def probe_memory(
    side: MeasuredSide,
    buffers: StreamBuffers,
    seconds: float,
    on_step: Callable[[str], None],
    on_result: Callable[[Measurement | Skipped], None],
    baselines: bool = False,
) -> None:
    """Measures the four patterns on one side, each within `seconds`, and hands each on as soon as it is known.

    Where the CPU has several types of core, read and copy are measured on each type alone as well; on a GPU, with
    `baselines`, read and copy by CUDA C++ too.
    """
    for op in OPS:
        on_step(f"{side.side} {op}")
        on_result(measure_pattern(side, side.memory, buffers, op, seconds))
    for op in ("read", "copy") if baselines and side.side == "device" else ():
        on_result(_measure_cupy(side, buffers, op, seconds))
    types = core_types() if side.side == "host" else {}
    for name, cpus in types.items() if len(types) > 1 else ():
        with only_on(cpus) as allowed:
            for op in ("read", "copy") if allowed else ():
                on_step(f"{side.side} {op}, {name} only")
                on_result(measure_pattern(side, f"{side.memory}, {allowed}x {name} only", buffers, op, seconds))


@contextmanager
def only_on(cpus: Iterable[int]) -> Iterator[int]:
    """Keeps the process, and so the host kernels' workers, on those of `cpus` that it may use; yields their number."""
    before = os.sched_getaffinity(0)
    allowed = before.intersection(cpus)
    if allowed:
        os.sched_setaffinity(0, allowed)
    try:
        yield len(allowed)
    finally:
        os.sched_setaffinity(0, before)


def _measure_cupy(side: MeasuredSide, buffers: StreamBuffers, op: str, seconds: float) -> Measurement | Skipped:
    """A second opinion on the ceiling; a failure of it, on a machine that it has never seen, ends nothing."""
    if find_spec("cupy") is None:
        return Skipped(probe="memory", case=f"cupy {op}", reason=WITHOUT_CUPY)
    try:
        return measure_pattern(side, side.memory, buffers, op, seconds, backend="cupy")
    except Exception as error:  # noqa: BLE001 - CuPy and NVRTC have errors of many types
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        return Skipped(probe="memory", case=f"cupy {op}", reason=reason)


def _cupy_launches(buffers: StreamBuffers) -> tuple[dict[str, Launch], dict[str, torch.Tensor]]:
    import torch

    from roofprobe.kernels import stream_cupy

    a, b = buffers.a, buffers.b
    partial_sums = torch.empty(stream_cupy.read_partials(b), dtype=torch.int32, device=b.device)
    run: dict[str, Launch] = {
        "read": lambda _: stream_cupy.read(b, partial_sums),
        "copy": lambda _: stream_cupy.copy(b, a),
    }
    return run, {"read": partial_sums, "copy": a}


def measure_pattern(
    side: MeasuredSide, memory: str, buffers: StreamBuffers, op: str, seconds: float, backend: str | None = None
) -> Measurement:
    """Times one pattern within `seconds` and checks every element; `backend` None is this side's own kernels."""
    from roofprobe.kernels import stream
    from roofprobe.kernels.stream_check import count_wrong

    run, outputs = launches(side, buffers) if backend is None else _cupy_launches(buffers)
    counted = stream.STREAM_OPS[op]
    config = stream_config(side)
    reference = None if op == "read" else "read"
    timing = measure(
        run[op],
        side.stopwatch,
        side.limits(seconds),
        run[reference] if reference else None,
        poison=lambda: buffers.a.fill_(POISON),
    )
    return Measurement(
        probe="memory",
        op=op,
        format="float32",
        n=buffers.n,
        side=side.side,
        memory=memory,
        backend=backend or side.backend,
        config=config_record(config) if backend is None else {},
        useful_bytes=counted.useful_bytes(buffers.n),
        estimated_bus_bytes=counted.bus_bytes(buffers.n, write_allocate=allocates_on_write(config)),
        timing=timing,
        reference=reference,
        reference_bytes=4 * buffers.n if reference else None,
        nominal_gb_per_s=side.nominal_gb_per_s,
        wrong=count_wrong(op, outputs[op], buffers.n, CHECKED_SEEDS[op], SCALAR),
    )


def main(argv: list[str] | None = None) -> int:
    """Runs ``roofprobe memory``; returns the exit status."""
    top = parser("roofprobe memory", "Read, copy, write and triad bandwidth of the memory.")
    add_flags(top, seconds=10)
    arguments = top.parse_args(argv)
    return run_probe(
        "memory",
        arguments,
        steps=len(OPS),
        arrays=3,
        probe_side=lambda side, buffers, on_step, on_result: probe_memory(
            side, buffers, arguments.seconds, on_step, on_result
        ),
    )


if __name__ == "__main__":
    raise SystemExit(main())
