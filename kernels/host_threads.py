"""How a host kernel runs: the threads it gets, where they are pinned, and how its machine code is cached.

numba's own thread pool (its "workqueue" layer) runs the kernels. Its idle threads sleep on a condition variable: they
take no cycles from whatever is measured next, which OpenMP's would. Work is handed out in chunks from one shared
counter, so that a slow core delays nobody: GB10 has ten X925 and ten A725 cores.
"""

from collections.abc import Callable
from dataclasses import dataclass
import hashlib
import os
from pathlib import Path
import threading
from typing import Any, Literal, ParamSpec, TypeVar, cast

import numba
import numpy as np

P = ParamSpec("P")
R = TypeVar("R")

numba.config.THREADING_LAYER = "workqueue"
SMALLEST_CHUNK = 4096  # bytes
_one_launch = threading.Lock()  # the pool aborts the process when two threads launch at once


@dataclass(frozen=True)
class HostConfig:
    """How a host kernel runs.

    threads: how many, each pinned to one CPU of the process's affinity mask in ascending order; None is all of them.
    chunk_bytes: how much of the written array (of the read one, for reads) a thread takes at a time.
    stores: "non-temporal" goes round the caches and saves the read of each written line; "normal" does not.
    """

    threads: int | None = None
    chunk_bytes: int = 4 << 20
    stores: Literal["non-temporal", "normal"] = "non-temporal"

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads: expected at least 1, got {self.threads}")
        if self.chunk_bytes < 1 or self.chunk_bytes % SMALLEST_CHUNK:
            raise ValueError(f"chunk_bytes: expected a positive multiple of {SMALLEST_CHUNK}, got {self.chunk_bytes}")
        if self.stores not in ("non-temporal", "normal"):
            raise ValueError(f'stores: expected "non-temporal" or "normal", got {self.stores!r}')

    @property
    def streaming(self) -> bool:
        return self.stores == "non-temporal"


def allowed_cpus() -> list[int]:
    """The CPUs that this process may use, ascending."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def worker_cpus(config: HostConfig) -> list[int]:
    """The CPU of each worker. Raises ValueError if the config asks for more threads than there are CPUs."""
    cpus = allowed_cpus()
    available = min(len(cpus), int(numba.config.NUMBA_NUM_THREADS))
    threads = available if config.threads is None else config.threads
    if threads > available:
        raise ValueError(f"threads: expected at most the {available} CPUs that this process may use, got {threads}")
    return cpus[:threads]


def share(config: HostConfig, n_bytes: int) -> int:
    """Bytes a worker takes at a time: config.chunk_bytes, or less where that leaves too few chunks to even out."""
    fair = n_bytes // (8 * len(worker_cpus(config))) // SMALLEST_CHUNK * SMALLEST_CHUNK
    return max(SMALLEST_CHUNK, min(config.chunk_bytes, fair))


def launch(kernel: Callable[..., None], config: HostConfig, *arguments: Any) -> None:
    """Run `kernel(cpus, counter, *arguments)`: one worker for each entry of `cpus`, chunks taken from `counter`."""
    cpus = worker_cpus(config)
    with _one_launch:
        numba.set_num_threads(len(cpus))
        kernel(np.array(cpus, dtype=np.int64), np.zeros(1, dtype=np.int64), *arguments)


def _cache_folder() -> str:
    """A cache folder named after the sources that kernels are built from.

    numba drops a cached kernel when the kernel's own file changes, and never looks at the files of what it calls.
    """
    folder = Path(__file__).parent
    sources = sorted({*folder.glob("vector_*.py"), *folder.glob("host_*.py"), *folder.glob("*_host.py")})
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]
    return str(Path(numba.config.CACHE_DIR or folder / "__pycache__") / f"numba-{digest}")


def host_kernel(*, parallel: bool = False) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Compile with numba at the first call, without the GIL, and keep the machine code on disk."""

    def compile_lazily(function: Callable[P, R]) -> Callable[P, R]:
        # The place is a process-wide setting of numba, which reads it only here.
        before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, _FOLDER
        try:
            kernel = numba.njit(nogil=True, cache=True, error_model="numpy", parallel=parallel)(function)
        finally:
            numba.config.CACHE_DIR = before
        return cast("Callable[P, R]", kernel)

    return compile_lazily


_FOLDER = _cache_folder()
