"""Memory of one kind, allocated without a pool, filled with data that follow from the index, freed at the end.

device     cudaMalloc             the CPU has no address for it
pinned     cudaHostAlloc          the GPU reads it where it lies
managed    cudaMallocManaged      on a card with memory of its own, its pages move to whoever reads them
pageable   ordinary memory        the GPU reads it where the system shares its page tables (GB10), else not at all
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
import ctypes
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil

from roofprobe.arguments import size_text
from roofprobe.measurement import Environment
from roofprobe.probes.memory import CHECKED_SEEDS
from roofprobe.probes.sides import CACHES_PER_ARRAY

if TYPE_CHECKING:
    import torch

    from roofprobe.probes.sides import MeasuredSide

KINDS = ("device", "pinned", "managed", "pageable")


@dataclass(frozen=True)
class Block:
    """Filled float32 memory [n]."""

    kind: str
    n: int
    address: int
    on_host: torch.Tensor | None
    """As the CPU sees it; None where it has no address."""


@contextmanager
def allocated(kind: str, environment: Environment, sides: Sequence[MeasuredSide]) -> Iterator[Block]:
    """Memory of one kind in a size that is free at this moment and outgrows the caches of all `sides`.

    Raises MemoryError where there is no room, and whatever CuPy raises where the kind is not supported.
    """
    n_bytes = min(side.array_bytes for side in sides)
    largest_cache = max(side.cache_bytes for side in sides)
    if n_bytes <= CACHES_PER_ARRAY * largest_cache:
        raise MemoryError(f"{size_text(n_bytes)} may be used, {CACHES_PER_ARRAY} x {size_text(largest_cache)} needed")
    free = free_bytes(environment)
    if n_bytes > free:
        raise MemoryError(f"{size_text(n_bytes)} needed, {size_text(free)} free")
    memory = _allocate(kind, n_bytes)
    try:
        address = memory.data_ptr() if kind == "pageable" else int(memory.ptr)
        on_host = None if kind == "device" else _host_view(address, n_bytes)
        _fill(_device_view(memory, n_bytes) if on_host is None else on_host)
        yield Block(kind, n_bytes // 4, address, on_host)
    finally:
        if environment.devices:
            _synchronize()
        del memory


def free_bytes(environment: Environment) -> int:
    """What may be allocated now of any kind: MemAvailable, and of a card with memory of its own no more than it has."""
    available: int = psutil.virtual_memory().available
    if not environment.devices or environment.devices[0].integrated:
        return available
    import torch

    return min(available, int(torch.cuda.mem_get_info(0)[0]))


def _allocate(kind: str, n_bytes: int) -> Any:
    """The object whose end frees the memory: CuPy's own classes below its pools."""
    if kind == "pageable":
        from roofprobe.kernels import host_memory

        return host_memory.allocate(n_bytes)
    import cupy

    classes = {"device": cupy.cuda.Memory, "pinned": cupy.cuda.PinnedMemory, "managed": cupy.cuda.ManagedMemory}
    return classes[kind](n_bytes)


def _host_view(address: int, n_bytes: int) -> torch.Tensor:
    import torch

    return torch.frombuffer((ctypes.c_ubyte * n_bytes).from_address(address), dtype=torch.float32)


def _device_view(memory: Any, n_bytes: int) -> torch.Tensor:
    import cupy
    import torch

    pointer = cupy.cuda.MemoryPointer(memory, 0)
    return torch.as_tensor(cupy.ndarray((n_bytes // 4,), dtype=cupy.float32, memptr=pointer), device="cuda")


def _fill(array: torch.Tensor) -> None:
    from roofprobe.kernels import stream

    stream.fill(array, CHECKED_SEEDS["read"][0])


def _synchronize() -> None:
    """Nothing may still read what is about to be freed."""
    import torch

    torch.cuda.synchronize()
