"""Where a part runs: a CUDA device, or for a dry run the CPU with Triton's interpreter and small shapes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
import time
from typing import Any

import torch

SPIN_CYCLES = 1_000_000
"""About 0.5 ms at 2 GHz: a host enqueues a flush, two events and a GEMV, checks and all, in a fraction of that."""
MOST_BYTES = 40 << 30
"""Of a GPU's memory: a lent or shared GPU is not ours to fill."""


@dataclass(frozen=True)
class Machine:
    """A device and how large a problem it takes."""

    device: torch.device
    dry: bool

    @property
    def cache_bytes(self) -> int:
        """Of the last-level cache; a dry run's buffers pretend to a small one."""
        return 1 << 12 if self.dry else int(torch.cuda.get_device_properties(self.device).L2_cache_size)

    def shape(self, n: int, k: int) -> tuple[int, int]:
        """That shape, or a small one of the same remainders by 32 and 16: the interpreter is 10^6 times slower."""
        return (n % 32 + 32, k % 32 + 256) if self.dry else (n, k)

    def room(self) -> int:
        """Bytes that a case may take.

        On an integrated GPU cudaMemGetInfo counts reclaimable page cache as used: there MemAvailable tells.
        """
        if self.dry:
            return MOST_BYTES
        if torch.cuda.get_device_properties(self.device).is_integrated:
            with open("/proc/meminfo") as lines:
                free = next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
        else:
            free = torch.cuda.mem_get_info(self.device)[0]
        return min(MOST_BYTES, int(0.9 * free))

    def synchronize(self) -> None:
        if not self.dry:
            torch.cuda.synchronize(self.device)


def machine(dry: bool) -> Machine:
    """Raises RuntimeError where a CUDA device is asked for and there is none."""
    if not dry and not torch.cuda.is_available():
        raise RuntimeError("torch finds no CUDA device")
    return Machine(torch.device("cpu" if dry else "cuda:0"), dry)


def seconds_of(where: Machine, work: Callable[[], Any], before: Callable[[], Any] | None = None) -> float:
    """Seconds of one `work` right after an untimed `before`: by a pair of CUDA events, or by the clock on a CPU.

    The device spins ahead of both, so that neither waits for the host to enqueue them.
    """
    if where.dry:
        if before is not None:
            before()
        start = time.perf_counter()
        work()
        return time.perf_counter() - start
    torch.cuda._sleep(SPIN_CYCLES)
    if before is not None:
        before()
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    work()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1e3
