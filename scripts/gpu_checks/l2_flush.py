"""What is done between two launches decides what a GEMV seems to take: four ways on the same weight.

    rotation  launches take turns over copies that exceed five L2s: what roofprobe's own figures do
    read      L2 is filled by reading, which leaves nothing to drain
    write     L2 is overwritten before each launch, as nvbench and do_bench do: dirty lines drain inside it
    hot       the same launch just before: a weight of two fifths of L2 is still there; no memory figure

The ways take turns. Each launch has a pair of events around it alone; what such a pair reads around nothing, in all of
the times, is said too. Figures are ratios to `rotation` in this run.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any

from gpu_checks.lines import say
from gpu_checks.machine import Machine, seconds_of
import torch

from roofprobe.kernels import stream
from roofprobe.kernels.formats import random_nvfp4, stored_bytes
from roofprobe.kernels.gemv import gemv

REPEATS = 40
K = 8192
OF_CACHE = 0.4
BYTES_A_WEIGHT = 0.5625  # NVFP4, its block scales included


def run(where: Machine) -> None:
    n = 18 if where.dry else int(OF_CACHE * where.cache_bytes / BYTES_A_WEIGHT / K)
    k = 288 if where.dry else K
    first = random_nvfp4(n, k, 1, where.device)
    moved = stored_bytes(first)
    copies = 2 + 5 * where.cache_bytes // moved
    weights = [first, *(random_nvfp4(n, k, 2 + copy, where.device) for copy in range(copies - 1))]
    x = torch.randn(1, k, generator=torch.Generator().manual_seed(2)).to(torch.bfloat16).to(where.device)
    y = torch.empty(1, n, dtype=torch.bfloat16, device=where.device)
    flushed = torch.zeros(2 * where.cache_bytes // 4, device=where.device)
    turn = iter(range(1 << 30))

    def launch() -> Any:
        return gemv(weights[0], x, out=y, backend="triton")

    def next_copy() -> Any:
        return gemv(weights[next(turn) % copies], x, out=y, backend="triton")

    def read() -> Any:
        return stream.read(flushed, backend="triton")

    ways: dict[str, tuple[Callable[[], Any] | None, Callable[[], Any]]] = {
        "rotation": (None, next_copy),
        "read": (read, launch),
        "write": (flushed.zero_, launch),
        "hot": (launch, launch),
    }
    if not where.dry:
        launch()  # compiles
        read()
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(1 if where.dry else REPEATS):
        for name, (before, work) in ways.items():
            found[name].append(seconds_of(where, work, before))
    if not where.dry:
        empty = median(seconds_of(where, lambda: None) for _ in range(REPEATS))
        say("a pair of events around nothing", "ok", us=round(empty * 1e6, 2))
    for name, seconds in found.items():
        took = median(seconds)
        say(
            f"nvfp4 gemv {n}x{k}, {name}",
            "ok",
            "a CPU's interpreter: no figure of a GPU" if where.dry else "",
            us=round(took * 1e6, 2),
            gb_per_s=None if where.dry else round(moved / took / 1e9, 1),
            of_rotation=round(took / median(found["rotation"]), 3),
        )
