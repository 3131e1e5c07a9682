"""Reads one memory from the GPU and from more and more CPU threads, alone and together, or from CPU threads alone.

Each case reads without a pause while its time is cut into equal windows; a launch that lies across a window's edge
counts in both by its share of time. Cases come in rounds of shuffled order, so that a machine whose memory changes its
state minutes apart changes it for all of them. What was read is checked by its sum, after every case. Threads are
pinned to CPUs in ascending order, of which the first five are Cortex-A725 on GB10.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from threading import Event
import time
from typing import TYPE_CHECKING

from roofprobe.contention import Readers, fit_ceiling
from roofprobe.errors import RoofprobeError
from roofprobe.load_record import Contention, ContentionPoint

if TYPE_CHECKING:
    import torch

    from roofprobe.probes.memory import StreamBuffers
    from roofprobe.probes.sides import MeasuredSide

WINDOWS = 8
BATCH_SECONDS = 5e-3
IN_FLIGHT = 2
SEED = 0xC0DE
POISON = -7
HOST_ONLY = "host only: a curve over CPU threads, no GPU took part"
OWN_MEMORY = "the GPU has its own memory: each side reads its own, and the sum of both is no memory's rate"

Span = tuple[float, float]
"""Start and end of a launch on the monotonic clock."""


@dataclass(frozen=True)
class Reader:
    """Reads one side's array over and over."""

    side: MeasuredSide
    buffers: StreamBuffers
    partial_sums: torch.Tensor
    checksum: int
    """What the partial sums add up to, modulo 2^32, as found right by a full check."""

    def read(self, cpu_threads: int | None = None) -> None:
        """Once; on the host with so many threads."""
        from roofprobe.kernels import stream
        from roofprobe.kernels.host_threads import HostConfig
        from roofprobe.probes.configs import stream_config

        config = stream_config(self.side) if cpu_threads is None else HostConfig(threads=cpu_threads)
        stream.read(self.buffers.b, out=self.partial_sums, config=config)

    def wrong(self) -> int:
        """1 where the last reads' sum is not the array's."""
        return int(_sum(self.partial_sums) != self.checksum)


def make_reader(side: MeasuredSide, buffers: StreamBuffers) -> Reader:
    """Raises RoofprobeError where even the first read is wrong."""
    from roofprobe.kernels import stream
    from roofprobe.kernels.stream_check import count_wrong
    from roofprobe.probes.configs import stream_config
    from roofprobe.probes.memory import CHECKED_SEEDS

    partial_sums = stream.read(buffers.b, config=stream_config(side))
    if count_wrong("read", partial_sums, buffers.n, CHECKED_SEEDS["read"]):
        raise RoofprobeError(f"the {side.side}'s read gives a wrong sum; the memory or the kernel is broken")
    return Reader(side, buffers, partial_sums, _sum(partial_sums))


def _sum(partial_sums: torch.Tensor) -> int:
    import torch

    return int(partial_sums.sum(dtype=torch.int64)) & 0xFFFFFFFF


def thread_counts(cpus: int) -> tuple[int, ...]:
    """1, 2, 4, … and all of them."""
    doubled = [1 << i for i in range(cpus.bit_length()) if 1 << i < cpus]
    return (*doubled, cpus)


def cases(cpus: int, device: bool) -> list[Readers]:
    """Who reads at once: every number of threads alone, and with a GPU that GPU alone and with each of them."""
    counts = thread_counts(cpus)
    alone = [Readers(False, count) for count in counts]
    return [Readers(True, 0), *alone, *(Readers(True, count) for count in counts)] if device else alone


def measure_contention(
    device: Reader | None,
    host: Reader,
    seconds: float,
    rounds: int,
    shared: bool,
    on_step: Callable[[str], None],
) -> Contention:
    """Every case in every round for `seconds` each, and the ceiling fitted to them; see `contention`."""
    from roofprobe.kernels.host_threads import HostConfig, worker_cpus

    random = Random(SEED)
    points = []
    wrong = 0
    for number in range(rounds):
        todo = cases(len(worker_cpus(HostConfig())), device is not None)
        random.shuffle(todo)
        on_step(f"contention curve, round {number + 1} of {rounds}")
        for readers in todo:
            points.append(_measure(device if readers.device else None, host, readers.cpu_threads, seconds))
            wrong += device.wrong() if device is not None and readers.device else 0
            wrong += host.wrong() if readers.cpu_threads else 0
    return Contention(
        sides=("device", "host") if device is not None else ("host",),
        op="read",
        memory=host.side.memory if device is None else f"{device.side.memory} and {host.side.memory}",
        shared=shared,
        points=tuple(points),
        ceiling=fit_ceiling(points) if shared else None,
        nominal_gb_per_s=host.side.nominal_gb_per_s if shared else None,
        wrong=wrong,
        note=HOST_ONLY if device is None else None if shared else OWN_MEMORY,
    )


def _measure(device: Reader | None, host: Reader, cpu_threads: int, seconds: float) -> ContentionPoint:
    for reader in (device, host if cpu_threads else None):
        if reader is not None:
            reader.partial_sums.fill_(POISON)
    device_spans: list[Span] = []
    host_spans: list[Span] = []
    with _fed(device, device_spans) if device is not None else _nothing():
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            if cpu_threads:
                start = time.perf_counter()
                host.read(cpu_threads)
                host_spans.append((start, time.perf_counter()))
            else:
                time.sleep(seconds / WINDOWS)
    columns = [spans for spans in (device_spans, host_spans) if spans]
    window, per_window = windows(columns)
    scaled = [
        tuple(share * reader.buffers.n_bytes for share in shares)
        for reader, shares in zip([each for each in (device, host if cpu_threads else None) if each], per_window)
    ]
    return ContentionPoint(
        device=device is not None,
        cpu_threads=cpu_threads,
        window_seconds=window,
        device_bytes=scaled[0] if device is not None else (),
        host_bytes=scaled[-1] if cpu_threads else (),
    )


def windows(columns: Sequence[Sequence[Span]]) -> tuple[float, list[list[float]]]:
    """The length of a window in seconds, and for each column how many of its spans lie in each of `WINDOWS` windows.

    The windows divide the time in which all columns ran. A span that an edge cuts counts on both sides by its share.
    """
    start = max(spans[0][0] for spans in columns)
    length = (min(spans[-1][1] for spans in columns) - start) / WINDOWS
    edges = [(start + i * length, start + (i + 1) * length) for i in range(WINDOWS)]
    return length, [[sum(_overlap(span, edge) for span in spans) for edge in edges] for spans in columns]


def _overlap(span: Span, window: Span) -> float:
    """The share of `span` that lies in `window`."""
    return max(0.0, min(span[1], window[1]) - max(span[0], window[0])) / (span[1] - span[0])


@contextmanager
def _nothing() -> Iterator[None]:
    yield


@contextmanager
def _fed(reader: Reader, spans: list[Span]) -> Iterator[None]:
    """The GPU reads on a stream of its own, the next batch always queued behind the one under way; from its first batch
    on to the end of the `with`. Written against torch's interface, and never run on a GPU so far."""
    stop, first = Event(), Event()
    with ThreadPoolExecutor(1) as pool:
        fed = pool.submit(_feed, reader, spans, stop, first)
        try:
            while not first.wait(0.01) and not fed.done():
                pass
            yield
        finally:
            stop.set()
        fed.result()


def _feed(reader: Reader, spans: list[Span], stop: Event, first: Event) -> None:
    """Events wait without spinning: a spinning thread would take a core from the CPU's readers."""
    import torch

    def batch(launches: int) -> torch.cuda.Event:
        for _ in range(launches):
            reader.read()
        done = torch.cuda.Event(blocking=True)
        done.record()
        return done

    with torch.cuda.device(reader.side.device), torch.cuda.stream(torch.cuda.Stream()):
        torch.cuda.synchronize()  # the poison is on another stream
        batch(1).synchronize()
        start = time.perf_counter()
        batch(1).synchronize()
        launches = max(1, round(BATCH_SECONDS / (time.perf_counter() - start)))
        flying: deque[torch.cuda.Event] = deque()
        before = time.perf_counter()
        while not stop.is_set():
            flying.append(batch(launches))
            if len(flying) > IN_FLIGHT:
                flying.popleft().synchronize()
                now = time.perf_counter()
                each = (now - before) / launches
                spans.extend((before + i * each, before + (i + 1) * each) for i in range(launches))
                before = now
                first.set()
        torch.cuda.current_stream().synchronize()
