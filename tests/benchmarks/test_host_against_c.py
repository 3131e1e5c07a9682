"""The CPU kernels against C with non-temporal stores, in one process and on the same memory.

    pytest tests/benchmarks/test_host_against_c.py

Each round times C, numba, C. The round's ratio is numba's bytes a second over C's (the mean of its two times). A round
is dropped if its two C times differ by more than 8 %, or if any of the three had its threads on a CPU for less than
95 % of the time: on a busy machine the scheduler favours a waking pool over new threads by a third. A limit is judged
on the 95 % interval of the median ratio: passed if the interval lies above, failed if it lies below, else skipped as
inconclusive: run it again on a quieter machine.

Dequantization is compared with C's copy by all bytes that each moves, and with C's write by the bytes written. Of its
bytes 78 % are written, of a copy's 50 %, so where writing is the bottleneck C's own write sets what the first of these
can be: then the limit is out of reach and only the second is judged. The other formats' dequantization, beside C's
copy, and GEMV, beside C's read, have no limit: decoding binds them.
"""

from collections.abc import Callable
import ctypes
from dataclasses import dataclass
import os
from pathlib import Path
import shutil
from statistics import median
import subprocess
import time
from typing import Any

import psutil
import pytest
import torch

from roofprobe.kernels import dequant_host, gemv_host, stream_host
from roofprobe.kernels.host_memory import allocate
from roofprobe.kernels.host_threads import allowed_cpus
from roofprobe.robust import median_interval

SOURCE = Path(__file__).parents[2] / "scripts" / "stream_reference.c"
ROUNDS = 61
DISAGREEMENT = 0.08
ON_CPU = 0.95
K = 8192  # of the matrices


@dataclass(frozen=True)
class Case:
    """numba's call and C's, each with the bytes it moves; the least ratio of their rates; what must hold afterwards."""

    numba: Callable[[], object]
    numba_bytes: float
    c: Callable[[], int]
    c_bytes: float
    limit: float | None
    is_right: Callable[[], bool] = lambda: True
    reach: Callable[[], float] | None = None  # the highest ratio that this machine's memory allows anyone


@dataclass(frozen=True)
class Timed:
    seconds: float
    on_cpu: float  # share of that time that the threads ran


def timed(call: Callable[[], Any], threads: int, into: list[Timed]) -> Any:
    start, busy = time.perf_counter(), time.process_time()
    result = call()
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    into.append(Timed(seconds, busy / seconds / threads))
    return result


@pytest.fixture(scope="module")
def c_library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        pytest.skip("no C compiler: set CC or install gcc")
    library = tmp_path_factory.mktemp("reference") / "stream_reference.so"
    flags = ["-std=c11", "-O3", "-march=native", "-Wall", "-Wextra", "-Werror", "-pthread", "-shared", "-fPIC"]
    subprocess.run([compiler, *flags, str(SOURCE), "-o", str(library)], check=True)
    return ctypes.CDLL(str(library))


@pytest.fixture(scope="module")
def arrays() -> list[torch.Tensor]:
    """Three of 1 GiB, or of a twelfth of the available memory where that is less; float32, filled."""
    n_bytes = min(1 << 30, psutil.virtual_memory().available // 12)
    n_bytes -= n_bytes % (16 * K)
    made = [allocate(n_bytes).view(torch.float32) for _ in range(3)]
    for seed, array in enumerate(made):
        stream_host.fill(array, seed)
    return made


@pytest.fixture
def case(request: pytest.FixtureRequest, c_library: ctypes.CDLL, arrays: list[torch.Tensor]) -> Case:
    a, b, c = arrays
    n, n_bytes, threads = a.numel(), a.nbytes, len(allowed_cpus())
    count, words = ctypes.c_int64(n), a.view(torch.int32)
    partials = torch.empty(stream_host.read_partials(), dtype=torch.int32)
    checksum = ctypes.c_uint32()
    at = {name: ctypes.c_void_p(tensor.data_ptr()) for name, tensor in zip("abc", arrays)}

    def c_copy() -> int:
        return int(c_library.stream_copy(at["b"], at["a"], count, threads))

    def c_write() -> int:
        return int(c_library.stream_write(at["a"], 7, count, threads))

    def c_triad() -> int:
        return int(c_library.stream_triad(at["b"], at["c"], ctypes.c_float(3.0), at["a"], count, threads))

    def c_read() -> int:
        return int(c_library.stream_read(at["b"], ctypes.byref(checksum), count, threads))

    def read() -> torch.Tensor:
        return stream_host.read(b, partials)

    half = a.view(torch.bfloat16).view(-1, K)
    codes, scales = (x.view(torch.uint8)[: half.numel() // part].view(-1, K // part) for x, part in ((b, 2), (c, 16)))
    x, rows = torch.ones(1, K), half.shape[0]
    weight, y = b.view(torch.bfloat16).view(-1, K), torch.empty(1, rows)

    def same_as_c(numba: Callable[[], object], again: Callable[[], int]) -> Callable[[], bool]:
        def check() -> bool:
            stream_host.fill(a, 99)  # what C left there is right already
            numba()
            mine = int(stream_host.read(a, partials).sum())
            return again() == 0 and mine == int(stream_host.read(a, partials).sum())

        return check

    def dequantize() -> torch.Tensor:
        return dequant_host.dequantize_nvfp4(codes, scales, 0.0123, False, half)

    def reach() -> float:
        copies: list[Timed] = []
        writes: list[Timed] = []
        for _ in range(9):
            timed(c_copy, threads, copies)
            timed(c_write, threads, writes)
        # By the bytes written, dequantization is no faster than a write; a copy writes as many.
        return 2.5625 / 4 * median(t.seconds for t in copies) / median(t.seconds for t in writes)

    def copy() -> torch.Tensor:
        return stream_host.copy(b, a)

    def write() -> torch.Tensor:
        return stream_host.write(words, 7)

    def triad() -> torch.Tensor:
        return stream_host.triad(b, c, 3.0, a)

    def gemv_nvfp4() -> torch.Tensor:
        return gemv_host.gemv_nvfp4(codes, scales, 0.0123, False, x, y)

    mx_scales = scales.view(-1)[: half.numel() // 32].view(-1, K // 32)
    values, one = b.view(torch.uint8).view(-1, K), torch.ones(())
    y8 = torch.empty(1, values.shape[0])

    def dequantize_mxfp4() -> torch.Tensor:
        return dequant_host.dequantize_mxfp4(codes, mx_scales, half)

    def dequantize_fp8() -> torch.Tensor:
        return dequant_host.dequantize_fp8(values[:rows], one, half)

    weights = half.numel()
    return {
        "copy": Case(copy, 2 * n_bytes, c_copy, 2 * n_bytes, 0.95, same_as_c(copy, c_copy)),
        "write": Case(write, n_bytes, c_write, n_bytes, 0.95, same_as_c(write, c_write)),
        "triad": Case(triad, 3 * n_bytes, c_triad, 3 * n_bytes, 0.95, same_as_c(triad, c_triad)),
        "read": Case(read, n_bytes, c_read, n_bytes, 0.95, lambda: int(partials.sum()) % 2**32 == checksum.value),
        "dequant nvfp4": Case(dequantize, 2.5625 * weights, c_copy, 2 * n_bytes, 0.85, reach=reach),
        "dequant writes": Case(dequantize, 2 * weights, c_write, n_bytes, 0.95),
        "gemv bf16": Case(lambda: gemv_host.gemv_bf16(weight, x, y), n_bytes, c_read, n_bytes, None),
        "dequant mxfp4": Case(dequantize_mxfp4, 2.53125 * weights, c_copy, 2 * n_bytes, None),
        "dequant fp8": Case(dequantize_fp8, 3 * weights, c_copy, 2 * n_bytes, None),
        "gemv fp8": Case(lambda: gemv_host.gemv_fp8(values, one, x, y8), n_bytes, c_read, n_bytes, None),
        "gemv mxfp4": Case(
            lambda: gemv_host.gemv_mxfp4(codes, mx_scales, x, y), 0.53125 * weights, c_read, n_bytes, None
        ),
        "gemv nvfp4": Case(gemv_nvfp4, 0.5625 * weights, c_read, n_bytes, None),
    }[request.param]


NAMES = ["copy", "write", "triad", "read", "dequant nvfp4", "dequant writes", "dequant mxfp4", "dequant fp8"]
NAMES += ["gemv bf16", "gemv fp8", "gemv nvfp4", "gemv mxfp4"]


@pytest.mark.parametrize("case", NAMES, indirect=True)
def test_rate_against_c(
    case: Case, arrays: list[torch.Tensor], benchmark: Any, request: pytest.FixtureRequest, capsys: Any
) -> None:
    threads = len(allowed_cpus())
    before: list[Timed] = []
    mine: list[Timed] = []
    after: list[Timed] = []

    def reference(into: list[Timed]) -> None:
        assert timed(case.c, threads, into) == 0

    case.numba()  # compiled and its pages touched before anything counts
    benchmark.pedantic(
        lambda: timed(case.numba, threads, mine),
        setup=lambda: reference(before),
        teardown=lambda: reference(after),
        rounds=ROUNDS,
    )
    kept = [
        (first.seconds + second.seconds) / 2 / own.seconds * case.numba_bytes / case.c_bytes
        for first, own, second in zip(before, mine, after, strict=True)
        if abs(first.seconds - second.seconds) <= DISAGREEMENT * min(first.seconds, second.seconds)
        and min(first.on_cpu, own.on_cpu, second.on_cpu) >= ON_CPU
    ]
    assert case.is_right()

    name = request.node.callspec.params["case"]
    interval = median_interval(kept)
    gb_per_s = case.numba_bytes / median(own.seconds for own in mine) / 1e9
    benchmark.extra_info.update(
        bytes=case.numba_bytes,
        gb_per_s=gb_per_s,
        ratio_to_c=median(kept) if kept else None,
        interval=interval,
        rounds_kept=len(kept),
        array_mib=arrays[0].nbytes / 2**20,
    )
    shown = f"{median(kept):.3f} [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "unknown"
    with capsys.disabled():
        print(
            f"\n{name:14} {gb_per_s:6.1f} GB/s, {shown} of C's rate (95 % interval; {len(kept)} of {ROUNDS} rounds; "
            f"{arrays[0].nbytes / 2**20:.0f} MiB each)",
            end=" ",
        )
    if case.limit is None:
        return
    if interval is None:
        pytest.skip(f"inconclusive: only {len(kept)} of {ROUNDS} rounds were undisturbed")
    if interval[0] < case.limit <= interval[1]:
        pytest.skip(f"inconclusive: the interval {shown} holds the limit {case.limit}")
    if interval[1] < case.limit and case.reach is not None and (reach := case.reach()) < case.limit:
        pytest.skip(f"inconclusive: {shown}, but C's own writes allow no more than {reach:.3f} here")
    assert interval[0] >= case.limit, f"{name}: {shown} of C's rate, below {case.limit}"
