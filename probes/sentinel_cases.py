"""The sentinels: small known pieces of work whose rate tells the state that a machine is in.

    gemv     y[N] = W[N, K] x[K] in bf16, 28672 x 8192     bound by reading, as decode is
    copy     y[i] = x[i] over an array past the caches     bound by reading and writing
    matmul   C[M, N] = A[M, K] B[K, N] in bf16             bound by arithmetic; torch's

GB10 has a slow state that NVML does not show, in which a GEMV is several times slower and a copy is not: so both run.
A result is checked in full before and after a load; during it, it is compared with the one that was found right. The
matrices hold whole numbers whose sums stay below 2^24, so that float32 sums are exact in any order and C is their
rounding to bf16, bit for bit. On a GPU a number is at most 8; on a CPU at most 1, whose sums stay exact even where a
product without bf16 instructions rounds between its steps.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
import time
from typing import TYPE_CHECKING

from roofprobe.load_record import SentinelName
from roofprobe.measurement import Skipped
from roofprobe.probes.memory import CHECKED_SEEDS, StreamBuffers
from roofprobe.probes.rotation import Rotation
from roofprobe.probes.sides import CACHES_PER_ARRAY
from roofprobe.timing import HostStopwatch, Launch, Stopwatch

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from roofprobe.probes.sides import MeasuredSide

SAMPLE_SECONDS = 0.02
"""A sample lasts at least so long: a stretch of load then has about fifty, and a soak's records stay small."""
MATMUL_SIZES = {"device": (8192, 4096), "host": (2048, 1024, 512)}
"""M = N = K, the largest that fits and, on a CPU, that takes no longer than `HOST_MATMUL_SECONDS`."""
HOST_MATMUL_SECONDS = 0.25
MATRICES = 4
"""A, B, C and the C that was found right."""
POISON = float("nan")


@dataclass(frozen=True)
class SentinelCase:
    """One sentinel on one side, with its operands."""

    name: SentinelName
    backend: str
    launch: Launch
    poison: Callable[[], object]
    """Spoils the outputs: what is there afterwards was written afterwards."""
    count_wrong: Callable[[], int]
    """Checks every output that was written since, in full, and keeps them as what is right."""
    unchanged: Callable[[], bool]
    """Whether the outputs equal those that `count_wrong` found right, bit for bit."""
    bytes: int | None = None
    flops: int | None = None
    size: int | None = None
    """Of a matmul's square matrices."""


def sentinel_stopwatch(side: MeasuredSide) -> Stopwatch:
    """The side's clock with samples long enough for a load."""
    if side.side == "host":
        return HostStopwatch(SAMPLE_SECONDS)
    from roofprobe.device_timing import DeviceStopwatch

    return DeviceStopwatch(SAMPLE_SECONDS)


def make_sentinels(side: MeasuredSide, buffers: StreamBuffers) -> tuple[list[SentinelCase], list[Skipped]]:
    """The sentinels of one side, and those that can't run with the reason.

    They take no more than the room of one array beside `buffers`: the product's matrices first, if they leave the
    GEMV's weights enough to outgrow the caches.
    """
    size = matmul_size(side)
    if isinstance(size, Skipped):
        return [_gemv(side), _copy(side, buffers)], [size]
    rest = replace(side, array_bytes=side.array_bytes - _matmul_bytes(size))
    return [_gemv(rest), _copy(side, buffers), _matmul(side, size)], []


def _gemv(side: MeasuredSide) -> SentinelCase:
    import torch

    from roofprobe.probes.gemv import gemv_case, make_operands
    from roofprobe.probes.weights import QUICK_SHAPES, random_source

    operands = make_operands(side, random_source(QUICK_SHAPES[0], "bf16"))
    case = gemv_case(side, operands)
    assert case.count_wrong is not None
    count = case.count_wrong
    rotation = Rotation(case.run, operands.outputs, POISON)
    right: dict[int, torch.Tensor] = {}

    def count_wrong() -> int:
        wrong = {copy: count(copy) for copy in rotation.written()}
        right.update({copy: operands.outputs[copy].clone() for copy, found in wrong.items() if found == 0})
        return sum(wrong.values())

    def unchanged() -> bool:
        return all(copy in right and torch.equal(operands.outputs[copy], right[copy]) for copy in rotation.written())

    return SentinelCase(
        "gemv", case.backend, rotation.launch, rotation.poison, count_wrong, unchanged, bytes=case.bytes_moved
    )


def _copy(side: MeasuredSide, buffers: StreamBuffers) -> SentinelCase:
    import torch

    from roofprobe.kernels.stream_check import count_wrong
    from roofprobe.probes.case import copy_ceiling

    ceiling = copy_ceiling(side, buffers)
    return SentinelCase(
        "copy",
        side.backend,
        ceiling.launch,
        poison=lambda: buffers.a.fill_(POISON),
        count_wrong=lambda: count_wrong("copy", buffers.a, buffers.n, CHECKED_SEEDS["copy"]),
        unchanged=lambda: torch.equal(buffers.a, buffers.b),
        bytes=ceiling.bytes_moved,
    )


def _matmul(side: MeasuredSide, size: int) -> SentinelCase:
    import torch

    largest = 8 if side.side == "device" else 1
    a, b = (whole_numbers(size, seed, largest, side.device) for seed in (1, 2))
    c, right = torch.empty_like(a), torch.full_like(a, POISON)

    def launch(_: int) -> None:
        with exact_sums(side):
            torch.matmul(a, b, out=c)

    def count_wrong() -> int:
        wrong = wrong_products(a, b, c)
        if wrong == 0:
            right.copy_(c)
        return wrong

    return SentinelCase(
        "matmul",
        "torch",
        launch,
        poison=lambda: c.fill_(POISON),
        count_wrong=count_wrong,
        unchanged=lambda: torch.equal(c, right),
        flops=2 * size**3,
        size=size,
    )


def whole_numbers(size: int, seed: int, largest: int, device: torch.device) -> torch.Tensor:
    """bf16 [size, size] of random whole numbers from -largest to largest."""
    import torch

    generator = torch.Generator(device).manual_seed(seed)
    return torch.randint(-largest, largest + 1, (size, size), generator=generator, dtype=torch.bfloat16, device=device)


def wrong_products(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> int:
    """Elements of c that are not the exact a b rounded to bf16; NaN counts. a, b: whole numbers, |sums| below 2^24."""
    import torch

    wrong = 0
    wide = b.float()
    with _full_float32():
        for rows in range(0, len(a), 1024):
            exact = (a[rows : rows + 1024].float() @ wide).to(torch.bfloat16)
            wrong += int((c[rows : rows + 1024] != exact).sum())
    return wrong


@contextmanager
def _full_float32() -> Iterator[None]:
    """Keeps the checking product off TF32, whose 11 bits would round sums' operands on another's setting."""
    import torch

    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def exact_sums(side: MeasuredSide) -> AbstractContextManager[None]:
    """Keeps cuBLAS from rounding partial sums to bf16, which torch permits it by default."""
    return _no_reduced_precision() if side.side == "device" else nullcontext()


@contextmanager
def _no_reduced_precision() -> Iterator[None]:
    import torch

    settings = torch.backends.cuda.matmul
    before = settings.allow_bf16_reduced_precision_reduction
    settings.allow_bf16_reduced_precision_reduction = False
    try:
        yield
    finally:
        settings.allow_bf16_reduced_precision_reduction = before


def matmul_size(side: MeasuredSide) -> int | Skipped:
    """The product that this side can afford in memory and time, or why it has none."""
    case = f"{side.side} matmul"
    room = side.array_bytes - (CACHES_PER_ARRAY * side.cache_bytes + 1)
    sizes = [size for size in MATMUL_SIZES[side.side] if _matmul_bytes(size) <= room]
    if not sizes:
        reason = f"matrices of {MATMUL_SIZES[side.side][-1]} and weights that outgrow the caches don't fit together"
        return Skipped(probe="matmul", case=case, reason=f"{reason} in {side.array_bytes >> 20} MiB; raise --memory")
    if side.side == "device":
        return sizes[0]
    rate = _host_flops_per_second()
    affordable = [size for size in sizes if 2 * size**3 / rate <= HOST_MATMUL_SECONDS]
    if not affordable:
        reason = f"torch's bf16 product reaches {rate / 1e9:.1f} GFLOP/s on this CPU: too slow to tell anything"
        return Skipped(probe="matmul", case=case, reason=reason)
    return affordable[0]


def _host_flops_per_second(size: int = 256) -> float:
    import torch

    a = torch.ones(size, size, dtype=torch.bfloat16)
    torch.matmul(a, a)
    start = time.perf_counter()
    torch.matmul(a, a)
    return 2 * size**3 / (time.perf_counter() - start)


def _matmul_bytes(size: int) -> int:
    return 2 * MATRICES * size**2
