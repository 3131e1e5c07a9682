"""Measures one collective at every size of a plan, out of place and in place, and checks every element of the results.

The check is never timed. Out of place, the receive buffer is poisoned before the timed loop and its contents after it
are checked; then, and in place only, further operations on fresh inputs are checked as often as the plan says. (In
place the timed loop reduces its own results over and over, so its last one tells nothing.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import TYPE_CHECKING

from roofprobe.collectives.collective import Collective
from roofprobe.collectives.dtypes import Dtype
from roofprobe.collectives.exact import Pattern, count_wrong, fill, poison
from roofprobe.collectives.process_group import Group, first_line
from roofprobe.collectives.results import Placement, Row, SweepPlan
from roofprobe.collectives.timed_loop import timed_loop
from roofprobe.errors import RoofprobeError

if TYPE_CHECKING:
    import torch

TIMED_SEED = 99


def sweep(
    collective: Collective,
    plan: SweepPlan,
    pattern: Pattern,
    counts: Sequence[int],
    group: Group,
    time_limit_seconds: float | None = None,
) -> Iterator[Row]:
    """Yields a row a size, the same on every rank; stops early where the next size would pass the time limit.

    Raises RoofprobeError naming this rank and the size where a collective fails: a peer has gone, or stays away
    beyond the group's timeout.
    """
    import torch

    began = perf_counter()
    dtype = pattern.dtype
    send = torch.empty(counts[-1], dtype=dtype.torch, device=group.device)
    receive = torch.empty_like(send)
    previous_end = 0.0
    for count in counts:
        n_bytes = count * dtype.bytes
        try:
            out_of_place = _placement(collective, plan, pattern, group, send[:count], receive[:count])
            in_place = _placement(collective, plan, pattern, group, receive[:count], receive[:count])
        except RuntimeError as error:
            own = group.ranks[group.rank]
            raise RoofprobeError(
                f"rank {own.rank} on {own.host}: {collective.name} of {n_bytes} bytes failed: {first_line(error)}"
            ) from None
        yield Row(n_bytes, count, out_of_place, in_place)
        if time_limit_seconds is not None:
            # Rank 0's clock decides for all. The next size costs about twice this one, checks included.
            elapsed = group.gather([perf_counter() - began])[0][0]
            if elapsed + 2 * (elapsed - previous_end) > time_limit_seconds:
                return
            previous_end = elapsed


def _placement(
    collective: Collective,
    plan: SweepPlan,
    pattern: Pattern,
    group: Group,
    send: torch.Tensor,
    receive: torch.Tensor,
) -> Placement:
    in_place = send.data_ptr() == receive.data_ptr()
    if in_place:
        receive = send

    def operation() -> None:
        collective.start(send, receive, plan.reduction)

    def prepare(seed: int) -> None:
        fill(send, pattern, group.rank, seed)
        if not in_place:
            poison(receive, pattern.dtype)

    prepare(TIMED_SEED)
    for _ in range(plan.warmup_iterations):
        operation()
    if not in_place:
        poison(receive, pattern.dtype)
    times = timed_loop(operation, group, plan.iterations, plan.blocking, plan.graph_launches)
    wrong = [0]
    if plan.checks and not in_place:
        wrong.append(count_wrong(receive, pattern, TIMED_SEED))
    for check in range(plan.checks):
        prepare(check)
        operation()
        group.synchronize()
        wrong.append(count_wrong(receive, pattern, check))
    # An element that is wrong in several results is one wrong element: the worst result counts.
    everyone = group.gather([times.mean_seconds, float(max(wrong)), *times.seconds])
    return Placement(
        mean_seconds=sum(values[0] for values in everyone) / group.world_size,
        rank_seconds=tuple(tuple(values[2:]) for values in everyone),
        rank_wrong=tuple(int(values[1]) for values in everyone) if plan.checks else None,
    )


def buffer_bytes(counts: Sequence[int], dtype: Dtype) -> int:
    """What one rank allocates for the sweep: a send and a receive buffer of the largest size."""
    return 2 * counts[-1] * dtype.bytes
