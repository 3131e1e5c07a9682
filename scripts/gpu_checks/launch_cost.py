"""Host enqueue against CUDA graph, and roofprobe's clock against an independent one.

A loop of small launches takes what the host needs to enqueue them; a captured graph takes what the device needs. The
clock: while torch's profiler is on, the sample that `DeviceStopwatch` times by events is also a list of kernels with
CUPTI's own begin and end, on the same launches. From the first begin to the last end has to agree within 2 %.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
import time
from typing import TYPE_CHECKING, Any

from gpu_checks.lines import first_line, say
from gpu_checks.machine import Machine
import torch

from roofprobe.kernels.formats import random_nvfp4, stored_bytes
from roofprobe.kernels.gemv import gemv

if TYPE_CHECKING:
    from roofprobe.timing import Sample

LAUNCHES = 200
SAMPLES = 15
PROFILED_SAMPLES = 6
AGREE_WITHIN = 0.02
LONG_ENOUGH = 5e-3
"""Seconds: a graph of hundreds of profiled kernels takes tens of microseconds to begin, which only the events see."""
SHAPES = ((1024, 1024), (4096, 4096), (16384, 8192), (28672, 8192))


def run(where: Machine) -> None:
    prepared = []
    for n, k in ((18, 288),) if where.dry else SHAPES:
        name, launch = f"nvfp4 gemv {n}x{k}", _launches(where, n, k)
        enqueue, loop = _loop(where, launch)
        if where.dry:
            say(name, "ok", "a CPU's interpreter: no figure of a GPU", enqueue_us=_us(enqueue))
            continue
        prepared.append((name, launch))
        try:
            from roofprobe.device_timing import DeviceStopwatch
        except ImportError as error:
            say(name, "skipped", first_line(error), enqueue_us=_us(enqueue), loop_us=_us(loop))
            continue
        stopwatch = DeviceStopwatch()
        case = stopwatch.prepare(launch)
        graph = median(case.sample().seconds for _ in range(SAMPLES))
        captured = stopwatch.clock == "cuda-graph"
        told = "" if captured else "the launches could not be captured"
        figures = {"enqueue_us": _us(enqueue), "loop_us": _us(loop), "graph_us": _us(graph)}
        say(name, "ok" if captured else "failed", told, **figures)
    for name, launch in prepared:  # last: a profiler that crashes with graphs costs nothing else
        _compare(f"{name}, events against CUPTI", launch)


def _launches(where: Machine, n: int, k: int) -> Callable[[int], object]:
    first = random_nvfp4(n, k, 1, where.device)
    copies = 1 + 5 * where.cache_bytes // stored_bytes(first)
    weights = [first, *(random_nvfp4(n, k, 2 + copy, where.device) for copy in range(copies - 1))]
    x = torch.randn(1, k, generator=torch.Generator().manual_seed(2)).to(torch.bfloat16).to(where.device)
    y = torch.empty(1, n, dtype=torch.bfloat16, device=where.device)
    return lambda count: gemv(weights[count % copies], x, out=y, backend="triton")


def _loop(where: Machine, launch: Callable[[int], object]) -> tuple[float, float]:
    """Seconds a launch that the host takes to enqueue a loop, and until the loop has run."""
    launches = 1 if where.dry else LAUNCHES
    if not where.dry:
        launch(0)
    where.synchronize()
    start = time.perf_counter()
    for count in range(launches):
        launch(count)
    queued = time.perf_counter() - start
    where.synchronize()
    return queued / launches, (time.perf_counter() - start) / launches


def _compare(name: str, launch: Callable[[int], object]) -> None:
    try:
        kernels, launches, sample = _profiled(launch)
    except (ImportError, RuntimeError, AssertionError) as error:  # the last: a torch without CUPTI asserts
        say(name, "skipped", first_line(error))
        return
    if len(kernels) < 2 * launches:
        say(name, "skipped", f"the profiler shows {len(kernels)} kernels of {2 * launches}: no CUPTI, or not permitted")
        return
    if sample.problem is not None:
        say(name, "skipped", f"the last sample does not count: {sample.problem}")
        return
    ours, seconds = kernels[-launches:], sample.seconds
    span = (ours[-1][1] - ours[0][0]) / launches / 1e6
    away = span / seconds - 1
    verdict, told = judged(away, seconds * launches)
    figures = {"event_us": _us(seconds), "cupti_us": _us(span), "difference": round(away, 4), "launches": launches}
    say(name, verdict, told, **figures, kernel_us=round(median(end - begin for begin, end in ours), 2))


def judged(away: float, sample_seconds: float) -> tuple[Any, str]:
    """The status and what to say of a difference between the clocks; a short sample has no verdict."""
    if sample_seconds < LONG_ENOUGH:
        return "ok", f"no verdict: a sample of {sample_seconds * 1e3:.1f} ms has the graph's own beginning in it"
    far = abs(away) > AGREE_WITHIN
    return ("failed", f"CUPTI differs by {away:+.1%}, more than {AGREE_WITHIN:.0%}") if far else ("ok", "")


def _profiled(launch: Callable[[int], object]) -> tuple[list[tuple[float, float]], int, Sample]:
    """Begin and end of every GEMV in microseconds, in order; launches of a sample; the last sample.

    The graph is captured while the profiler is on: it traces the nodes of no graph that is older than itself.
    """
    from torch.profiler import ProfilerActivity, profile

    from roofprobe.device_timing import DeviceStopwatch

    with profile(activities=[ProfilerActivity.CUDA]) as recorded:
        case = DeviceStopwatch(min_seconds=2 * LONG_ENOUGH).prepare(launch)
        # Profiled graphs take the host long to hand over: the stopwatch's spin grows until it covers that.
        samples = [case.sample() for _ in range(PROFILED_SAMPLES)]
        torch.cuda.synchronize()
    found = [e for e in recorded.events() or () if e.device_type.name == "CUDA" and "gemv" in e.name.lower()]
    kernels = sorted((float(e.time_range.start), float(e.time_range.end)) for e in found)
    return kernels, case.launches_per_sample, samples[-1]


def _us(seconds: float) -> float:
    return round(seconds * 1e6, 2)
