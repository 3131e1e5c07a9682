"""Measures one collective at every size of a plan, out of place and in place, and checks every element of the results.

The check is never timed. The receive buffer is poisoned before the timed loop, and what the loop left in it is
checked; then further operations on fresh inputs are checked as often as the plan says. (A reduction in place works on
its own results over and over in the timed loop, so its last one tells nothing: only the fresh ones are checked.) Where
every rank must receive the same bytes, the ranks are held against each other too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean
from time import perf_counter

from roofprobe.arguments import size_text
from roofprobe.collectives.agreement import dissenters, hash_of
from roofprobe.collectives.buffers import Buffers, make_room, moved_as_bytes
from roofprobe.collectives.collective import Call, Collective, Counts
from roofprobe.collectives.exact import Pattern, count_wrong, fill, poison
from roofprobe.collectives.process_group import Group
from roofprobe.collectives.results import Placement, Row, SweepPlan
from roofprobe.collectives.timed_loop import captured, timed_loop

TIMED_SEED = 99


def sweep(
    collective: Collective,
    plan: SweepPlan,
    pattern: Pattern,
    sizes: Sequence[Counts],
    group: Group,
    time_limit_seconds: float | None = None,
) -> Iterator[Row]:
    """Yields a row a size, the same on every rank; stops early where the next size would pass the time limit.

    Raises RuntimeError (torch's) where a collective fails: a peer has gone, or stays away beyond the group's timeout.
    Names its phases to the group's watch, which knows more.
    """
    began = perf_counter()
    dtype = pattern.dtype
    room = make_room(sizes, dtype, group.device)
    previous_end = 0.0
    for counts in sizes:
        n_bytes = counts.largest * dtype.bytes
        out_of_place, in_place = (
            _placement(collective, plan, pattern, group, counts, buffers)
            for buffers in (room.out_of_place(counts), room.in_place(counts, group.rank))
        )
        yield Row(n_bytes, counts.count, out_of_place, in_place)
        if time_limit_seconds is not None:
            # Rank 0's clock decides for all. The next size costs about twice this one, checks included.
            elapsed = group.gather([perf_counter() - began])[0][0]
            if elapsed + 2 * (elapsed - previous_end) > time_limit_seconds:
                return
            previous_end = elapsed


def _placement(
    collective: Collective, plan: SweepPlan, pattern: Pattern, group: Group, counts: Counts, buffers: Buffers
) -> Placement:
    call = Call(group.rank, group.world_size, plan.reduction, plan.root)
    operation = buffers.operation(collective, call, moved_as_bytes(collective, pattern.dtype, group.backend))
    pieces = collective.expected(call, counts.count)
    # A reduction in place overwrites what it read: nothing can be poisoned, and no second operation gives the same.
    repeatable = collective.repeatable_in_place or not buffers.in_place
    wrong: list[int] = []
    hashes: list[int] = []
    size = size_text(counts.largest * pattern.dtype.bytes)
    what = f"{collective.name}, {size} {'in' if buffers.in_place else 'out of'} place"

    def prepare(seed: int) -> None:
        group.watch.enter(f"filling the buffers of {what}", alone=True)
        if repeatable:
            poison(buffers.receive, pattern.dtype)
        if collective.sends(call):
            fill(buffers.send, pattern, group.rank, seed)

    def check(seed: int) -> None:
        group.synchronize()
        group.watch.enter(f"the check of {what}", alone=True)
        wrong.append(count_wrong(buffers.receive, pieces, pattern, seed))
        if collective.same_everywhere:
            hashes.append(hash_of(buffers.receive))

    prepare(TIMED_SEED)
    group.watch.enter(f"the warm-up of {what}")
    for _ in range(plan.warmup_iterations):
        operation()
        group.synchronize()  # enqueued together they would have one deadline together
    if repeatable:
        prepare(TIMED_SEED) if buffers.in_place else poison(buffers.receive, pattern.dtype)
    group.watch.enter(f"the timed loop of {what}")
    times = timed_loop(operation, group, plan.iterations, plan.blocking, plan.graph_launches)
    checks = plan.checks if collective.in_place or not buffers.in_place else 0
    if checks and repeatable:
        check(TIMED_SEED)
    # Timed as a graph, it is checked as one: the timed graph itself has long overwritten its inputs in place.
    checked = captured(operation) if checks and plan.graph_launches else operation
    for seed in range(checks):
        prepare(seed)
        group.watch.enter(f"the checked operation of {what}")
        checked()
        check(seed)
    group.watch.enter(f"comparing the results of {what}")
    everyone_times = group.gather([times.mean_seconds, *times.seconds])
    rank_wrong, odd_ranks = _verdict(group, wrong, hashes)
    return Placement(
        mean_seconds=fmean(values[0] for values in everyone_times),
        rank_seconds=tuple(tuple(values[1:]) for values in everyone_times),
        rank_wrong=rank_wrong if checks else None,
        odd_ranks=odd_ranks,
    )


def _verdict(group: Group, wrong: Sequence[int], hashes: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """By rank, how many elements are wrong; and which ranks received something else than the others."""
    halves = [float(half) for value in hashes for half in divmod(value, 1 << 32)]  # each exact in a float64
    everyone = group.gather([float(max(wrong, default=0)), *halves])
    # An element that is wrong in several results is one wrong element: the worst result counts.
    counted = tuple(int(values[0]) for values in everyone)
    odd: set[int] = set()
    for i in range(1, 1 + len(halves), 2):
        differing = dissenters([int(values[i]) << 32 | int(values[i + 1]) for values in everyone])
        # Where no majority says which ranks are right, the element check does if it found anything.
        if len(differing) < group.world_size or not any(counted):
            odd.update(differing)
    if any(counted):
        return counted, tuple(sorted(odd))
    return tuple(int(rank in odd) for rank in range(group.world_size)), tuple(sorted(odd))
