"""One rank that takes latencies in a group where something is wrong, for test_latency_ranks.py; rank 0 prints JSON."""

from __future__ import annotations

import dataclasses
import os
import sys
import time

import msgspec
import torch

from roofprobe.collectives import latency, latency_modes
from roofprobe.collectives.collective import Call
from roofprobe.collectives.dtypes import find_dtype
from roofprobe.collectives.exact import Pattern
from roofprobe.collectives.latency_clock import synchronized, wait_until
from roofprobe.collectives.latency_plan import LatencyPlan
from roofprobe.collectives.latency_sweep import LatencySweep
from roofprobe.collectives.process_group import Group, find_place, joined
from roofprobe.collectives.watch import Watch
from roofprobe.probes.latency_load import gemv_load

LATE_SECONDS = 0.03
AHEAD_NS = 5_000_000_000
DRIFT = 1e-4


def shift_the_clock(group: Group) -> Group:
    """Rank 1's clock is 5 s ahead and 100 ppm fast, as another machine's may be."""
    if group.rank == 1:
        true = time.perf_counter_ns
        began = true()
        time.perf_counter_ns = lambda: true() + AHEAD_NS + int((true() - began) * DRIFT)
    apart = tuple(msgspec.structs.replace(info, machine=f"machine {info.rank}") for info in group.ranks)
    return dataclasses.replace(group, ranks=apart)


def start_late(group: Group) -> Group:
    """Rank 1 begins every operation late."""

    def late(moment_ns: float) -> None:
        wait_until(moment_ns)
        time.sleep(LATE_SECONDS)

    if group.rank == 1:
        latency.wait_until = late
    return group


def corrupt(group: Group) -> Group:
    """On rank 1 every operation leaves one wrong element."""
    true = latency_modes.ALL_REDUCE

    def operation(send: torch.Tensor, receive: torch.Tensor, call: Call) -> latency.Launch:
        one = true.operation(send, receive, call)

        def wrong() -> None:
            one()
            receive[3] += 1

        return wrong

    if group.rank == 1:
        latency_modes.ALL_REDUCE = dataclasses.replace(true, operation=operation)
    return group


def main(kind: str) -> None:
    place = find_place(os.environ)
    assert place is not None
    with joined(place, 60, {}, Watch("latency_rank", place.rank, 60, speaks_for_all=True)) as group:
        changed = {"shifted": shift_the_clock, "late": start_late, "corrupt": corrupt}[kind](group)
        offset = synchronized(changed).offset_ns
        plan = LatencyPlan(sizes=(5760,), samples=30, seconds=6)
        sweep = LatencySweep(
            plan, Pattern(find_dtype("bfloat16"), "sum", group.world_size), changed, gemv_load(group, 1 << 20)
        )
        points = list(sweep.points())
        offsets = [values[0] for values in group.gather([offset])]
        if group.rank == 0:
            found = {"points": points, "findings": sweep.findings(), "offsets": offsets}
            print(msgspec.json.encode(found).decode(), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
