"""The load beside which a collective's latency is taken: a GEMV that streams weights through the ranks' own memory.

On a GPU it runs on a stream of its own, the next launch always queued behind the one under way. On a CPU it runs in
threads, one for each core of this host that the ranks leave, and one a rank where they leave none: then it takes
cores from the ranks as well as bandwidth, and says so.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
import os
from threading import Event, Thread
import time
from typing import TYPE_CHECKING

import psutil

from roofprobe.collectives.process_group import Group
from roofprobe.errors import RoofprobeError
from roofprobe.probes.sides import CACHES_PER_ARRAY

if TYPE_CHECKING:
    import torch

    Streamed = Callable[[], str]

COLUMNS = 8192
MOST_BYTES = 1 << 29
MEMORY_SHARE = 16
"""All ranks' weights take at most one part in this many of the memory that is available."""
IN_FLIGHT = 2


def gemv_load(group: Group, cache_bytes: int) -> Callable[[], AbstractContextManager[Streamed]]:
    """This rank's load over weights of four times `cache_bytes` (the last-level cache), allocated here, once."""
    import torch

    on_gpu = group.device.type == "cuda"
    own = group.ranks[group.rank]
    beside = sum(rank.shares_memory_with == own.shares_memory_with for rank in group.ranks)
    available = torch.cuda.mem_get_info(group.device)[0] if on_gpu else psutil.virtual_memory().available
    # float32 on a CPU, where torch's product in bf16 may be bound by arithmetic.
    dtype = torch.bfloat16 if on_gpu else torch.float32
    n_bytes = min(CACHES_PER_ARRAY * cache_bytes, MOST_BYTES, available // MEMORY_SHARE // beside)
    weights = torch.ones(max(1, n_bytes // (COLUMNS * dtype.itemsize)), COLUMNS, dtype=dtype, device=group.device)
    if on_gpu:
        return lambda: _on_stream(weights)
    ranks_here = sum(rank.machine == own.machine for rank in group.ranks)
    return lambda: _in_threads(weights, ranks_here, len(os.sched_getaffinity(0)))


@contextmanager
def _in_threads(weights: torch.Tensor, ranks_here: int, cpus: int) -> Iterator[Streamed]:
    threads = max(1, (cpus - ranks_here) // ranks_here)
    stop = Event()
    done = [0] * threads
    parts = [part for part in weights.chunk(threads) if part.numel()]
    workers = [Thread(target=_stream, args=(part, stop, done, i), daemon=True) for i, part in enumerate(parts)]
    began = time.perf_counter()
    for worker in workers:
        worker.start()
    crowded = "" if ranks_here * (threads + 1) <= cpus else f"; {ranks_here} ranks and their loads share {cpus} CPUs"
    try:
        while not all(done[: len(parts)]):
            _require_alive(workers)
            time.sleep(1e-3)
        yield (
            lambda: (
                f"GEMV on {len(parts)} thread{'s' * (len(parts) > 1)} a rank streams"
                f" {sum(done) / (time.perf_counter() - began) / 1e9:.1f} GB/s (rank 0){crowded}"
            )
        )
    finally:
        stop.set()
        for worker in workers:
            worker.join()


def _stream(weights: torch.Tensor, stop: Event, done: list[int], index: int) -> None:
    import torch

    if hasattr(os, "sched_setscheduler"):
        # Ranks that run in real time would otherwise wait for their load's turns, of 100 ms each.
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    torch.set_num_threads(1)  # a setting of each thread: without it this one would start a pool of its own
    x, out = weights.new_ones(weights.shape[1]), weights.new_empty(weights.shape[0])
    while not stop.is_set():
        torch.mv(weights, x, out=out)
        done[index] += weights.nbytes


@contextmanager
def _on_stream(weights: torch.Tensor) -> Iterator[Streamed]:
    """Written against torch's interface, and never run on a GPU so far."""
    stop = Event()
    done = [0]
    feeder = Thread(target=_feed, args=(weights, stop, done), daemon=True)
    began = time.perf_counter()
    feeder.start()
    try:
        while not done[0]:
            _require_alive([feeder])
            time.sleep(1e-3)
        yield lambda: f"GEMV on a second stream reads {done[0] / (time.perf_counter() - began) / 1e9:.1f} GB/s (rank 0)"
    finally:
        stop.set()
        feeder.join()


def _require_alive(threads: Sequence[Thread]) -> None:
    if not all(thread.is_alive() for thread in threads):
        raise RoofprobeError("the load beside the all-reduce ended by itself; the error above says why")


def _feed(weights: torch.Tensor, stop: Event, done: list[int]) -> None:
    import torch

    with torch.cuda.device(weights.device), torch.cuda.stream(torch.cuda.Stream()):
        x, out = weights.new_ones(weights.shape[1]), weights.new_empty(weights.shape[0])
        flying: deque[torch.cuda.Event] = deque()
        while not stop.is_set():
            torch.mv(weights, x, out=out)
            flying.append(torch.cuda.Event())
            flying[-1].record()
            if len(flying) > IN_FLIGHT:
                flying.popleft().synchronize()
                done[0] += weights.nbytes
        torch.cuda.current_stream().synchronize()
