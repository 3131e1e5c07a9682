"""The sides of a machine that a probe can measure: the first CUDA device through Triton, the CPU through numba.

Sizes follow from what is free, never from a constant: a run takes at most a quarter of MemAvailable (of the card's
free memory on a card with its own), and each array must exceed the last-level cache fourfold, or it would measure
that instead of the memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from roofprobe.arguments import size_text
from roofprobe.environment import platform_of
from roofprobe.errors import BadInput
from roofprobe.measurement import Environment, Side, Skipped
from roofprobe.timing import DEVICE_PRECISION, HOST_PRECISION, HostStopwatch, Limits, Stopwatch

if TYPE_CHECKING:
    import torch

MEMORY_SHARE = 0.25
CACHES_PER_ARRAY = 4
PREFERRED_ARRAY_BYTES = 1 << 30
ARRAYS = 3
"""STREAM's triad reads two arrays and writes a third; it is the most that any probe holds at a time."""
ROW_BYTES = 1 << 20
"""Array sizes are multiples of this, so that no side has a tail that another has not."""


@dataclass(frozen=True)
class MeasuredSide:
    """One side, ready to be measured."""

    side: Side
    device: torch.device
    backend: str
    memory: str
    """Its name in rows and report; a host's says that it is the CPU's view of the memory."""
    nominal_gb_per_s: float | None
    array_bytes: int
    """Size of each STREAM array, and the most that a kernel's weights may take."""
    cache_bytes: int
    stopwatch: Stopwatch
    precision: float

    def limits(self, seconds: float) -> Limits:
        """The protocol's precision for this side within `seconds`."""
        return Limits(precision=self.precision, seconds=seconds)

    def ceiling_line(self) -> str:
        """What the memory could do at best, printed before anything is measured."""
        if self.nominal_gb_per_s is None:
            return f"{self.side}: {self.memory}; nominal ceiling unknown: no platform file matches this machine"
        return f"{self.side}: {self.memory}; nominal ceiling {self.nominal_gb_per_s:.1f} GB/s"


def find_sides(
    environment: Environment, wanted: str = "all", memory_limit: int | None = None
) -> tuple[list[MeasuredSide], list[Skipped]]:
    """The sides of this machine, and the ones that can't be measured with the reason.

    Raises BadInput, with the size it needs, where the memory that may be used is too small to outgrow the cache.
    """
    found: list[MeasuredSide] = []
    skipped: list[Skipped] = []
    for side, reason in _availability(environment, wanted):
        if reason is None:
            found.append(_device(environment, memory_limit) if side == "device" else _host(environment, memory_limit))
        else:
            skipped.append(Skipped(probe="run", case=f"{side} side", reason=reason))
    if not found:
        raise BadInput(f"nothing to measure: {'; '.join(s.reason for s in skipped)}")
    return found, skipped


def _availability(environment: Environment, wanted: str) -> Iterator[tuple[Side, str | None]]:
    if wanted in ("all", "device"):
        if not environment.devices:
            yield "device", "torch finds no CUDA device"
        elif environment.triton is None:
            yield "device", "Triton is not installed: pip install triton"
        else:
            yield "device", None
    if wanted in ("all", "host"):
        yield "host", None if environment.numba is not None else "numba is not installed: pip install numba"


def array_size(available: int, cache_bytes: int, memory_limit: int | None, what: str) -> int:
    """Bytes of each of the three STREAM arrays: 1 GiB or four caches if there is room, else what there is room for.

    Raises BadInput, with the memory it needs, where not even four caches fit three times.
    """
    smallest = _rounded_up(CACHES_PER_ARRAY * cache_bytes + 1)
    budget = int(available * MEMORY_SHARE) if memory_limit is None else memory_limit
    if budget < ARRAYS * smallest:
        needed = ARRAYS * smallest
        advice = (
            f"free {size_text(needed / MEMORY_SHARE)} or pass --memory {_mebibytes(needed)}M"
            if memory_limit is None
            else f"pass --memory {_mebibytes(needed)}M or more"
        )
        raise BadInput(
            f"too little memory for the {what}: {size_text(budget)} may be used, {size_text(needed)} needed"
            f" ({ARRAYS} arrays of {CACHES_PER_ARRAY} x {size_text(cache_bytes)} of cache); {advice}"
        )
    if budget > available:
        raise BadInput(f"--memory {size_text(budget)} is more than the {size_text(available)} available for the {what}")
    room = budget // ARRAYS // ROW_BYTES * ROW_BYTES
    return min(room, max(smallest, PREFERRED_ARRAY_BYTES))


def _rounded_up(n_bytes: int) -> int:
    return -(-n_bytes // ROW_BYTES) * ROW_BYTES


def _mebibytes(n_bytes: int) -> int:
    return -(-n_bytes // (1 << 20))


def _host(environment: Environment, memory_limit: int | None) -> MeasuredSide:
    import torch

    platform = platform_of(environment)
    unified = platform is not None and platform.memory.unified
    memory = platform.memory.name if platform is not None and unified else f"memory ({environment.cpu_model})"
    cache = environment.last_level_cache_bytes
    return MeasuredSide(
        side="host",
        device=torch.device("cpu"),
        backend="host",
        memory=f"CPU side of {memory}",
        nominal_gb_per_s=None if platform is None else platform.nominal_gb_per_s("host"),
        array_bytes=array_size(psutil.virtual_memory().available, cache, memory_limit, "CPU"),
        cache_bytes=cache,
        stopwatch=HostStopwatch(),
        precision=HOST_PRECISION,
    )


def _device(environment: Environment, memory_limit: int | None) -> MeasuredSide:
    import torch

    from roofprobe.device_timing import DeviceStopwatch

    described = environment.devices[0]
    platform = platform_of(environment)
    # On a chip that shares the CPU's memory, the driver counts reclaimable page cache as used: MemAvailable is right.
    available = psutil.virtual_memory().available if described.integrated else torch.cuda.mem_get_info(0)[0]
    name = described.name if platform is None else f"{described.name}, {platform.memory.name}"
    return MeasuredSide(
        side="device",
        device=torch.device("cuda", 0),
        backend="triton",
        memory=name,
        nominal_gb_per_s=None if platform is None else platform.nominal_gb_per_s("device"),
        array_bytes=array_size(available, described.l2_bytes, memory_limit, described.name),
        cache_bytes=described.l2_bytes,
        stopwatch=DeviceStopwatch(),
        precision=DEVICE_PRECISION,
    )
