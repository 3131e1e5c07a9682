"""One clock for all ranks, without one: offsets from ping-pong, and a moment for all to start at.

Rank r's clock reads c_r. Rank 0 sends at t0, r reads t1 between receiving and answering, rank 0 has the answer at t3.
Then t1 - t3 <= c_r - c_0 <= t1 - t0 whatever the two ways took, and the offset lies where all exchanges' intervals
overlap. Half the overlap is the uncertainty; links that are slower one way than the other cost no more than that.
Ranks of one machine read one clock: there the offset is 0 and certain, unless the exchanges contradict.

To start together, each rank proposes the moment after which it can be ready, on rank 0's clock, and the latest
proposal (an all-reduce, maximum) holds. It lies so far ahead that the all-reduce has ended on every rank before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from statistics import median
import time
from typing import TYPE_CHECKING

from roofprobe.collectives.process_group import Group

if TYPE_CHECKING:
    import torch

EXCHANGES = 20
ROUND_TRIP_BYTES = 64 << 10
EXCHANGES_A_ROUND = 9
ROUNDS = 3
SPIN_NS = 100_000
"""A sleeping thread wakes up to about this late, the timer's slack and the scheduler's turn."""
MARGIN = 1.5
"""Agreements' own times from the latest proposal to the moment."""
Exchange = tuple[int, int, int]
"""t0, t1, t3 in ns: sent and answered on the asking rank's clock, the middle one on the other's."""


@dataclass(frozen=True)
class Clock:
    """This rank's clock against rank 0's, read at `at_ns` of its own."""

    offset_ns: float
    """Own reading minus rank 0's at the same moment."""
    uncertainty_ns: float
    """The largest of any rank: how far two ranks may be apart in what they call the same moment."""
    at_ns: int
    shared: bool
    """Whether all ranks read one and the same clock, which can't drift apart."""


def synchronized(group: Group) -> Clock:
    """Compares every rank's clock with rank 0's. All ranks have to call it; they wait for each other."""
    bounds = [(0.0, 0.0)]
    for rank in range(1, group.world_size):
        exchanges = exchange(group, 0, rank, EXCHANGES)
        bounds.append(offset_bounds(exchanges) if exchanges else (0.0, 0.0))
    bounds = [(low, high) for low, high in zip(*[iter(group.gather([b for pair in bounds for b in pair])[0])] * 2)]
    same = [rank.machine == group.ranks[0].machine for rank in group.ranks]
    shared = [one and low <= 0 <= high for one, (low, high) in zip(same, bounds)]
    errors = [0.0 if certain else (high - low) / 2 for certain, (low, high) in zip(shared, bounds)]
    low, high = bounds[group.rank]
    return Clock(
        offset_ns=0.0 if shared[group.rank] else (low + high) / 2,
        uncertainty_ns=max(errors),
        at_ns=time.perf_counter_ns(),
        shared=all(shared),
    )


def offset_bounds(exchanges: list[Exchange]) -> tuple[float, float]:
    """Between which offsets (the other's clock minus the asker's) all exchanges agree.

    Where none does, because the clocks drift while they are compared, the shortest exchange's bounds.
    """
    low = max(t1 - t3 for _, t1, t3 in exchanges)
    high = min(t1 - t0 for t0, t1, _ in exchanges)
    if low <= high:
        return float(low), float(high)
    t0, t1, t3 = min(exchanges, key=lambda e: e[2] - e[0])
    return float(t1 - t3), float(t1 - t0)


def exchange(group: Group, asking: int, answering: int, times: int, n_bytes: int = 8) -> list[Exchange]:
    """On rank `asking` the exchanges with `answering`, each of `n_bytes`; nothing on the other ranks."""
    import torch
    import torch.distributed as dist

    if group.rank not in (asking, answering):
        return []
    message = torch.zeros(n_bytes // 8, dtype=torch.int64, device=group.device)
    found = []
    for _ in range(times):
        if group.rank == asking:
            sent = time.perf_counter_ns()
            dist.send(message, answering)
            dist.recv(message, answering)
            read = int(message[0].item())
            found.append((sent, read, time.perf_counter_ns()))
        else:
            dist.recv(message, asking)
            group.synchronize()
            message[0] = time.perf_counter_ns()
            dist.send(message, asking)
    group.synchronize()
    return found


def round_trips_us(group: Group) -> dict[tuple[int, int], float]:
    """Round trip of 64 KiB between each two ranks, one pair at a time, the same on every rank.

    The median of some exchanges, so that the burst which a shaped link lets through does not hide the link; and of
    several rounds the shortest, since a busy machine slows a pair for a while and a slow link slows it always.
    """
    pairs = list(combinations(range(group.world_size), 2))
    shortest = [float("inf")] * len(pairs)
    for _ in range(ROUNDS):
        for i, (a, b) in enumerate(pairs):
            took = [t3 - t0 for t0, _, t3 in exchange(group, a, b, EXCHANGES_A_ROUND, ROUND_TRIP_BYTES)]
            shortest[i] = min(shortest[i], median(took) / 1e3 if took else shortest[i])
            group.barrier()
    everyone = group.gather(shortest) if pairs else []
    return {pair: everyone[pair[0]][i] for i, pair in enumerate(pairs)}


class Meeting:
    """Agrees on moments at which all ranks start."""

    def __init__(self, group: Group, clock: Clock) -> None:
        self._group = group
        self._clock = clock
        self._margin_ns = 0.0
        took = []
        for _ in range(EXCHANGES):
            began = time.perf_counter_ns()
            self.agree(False)
            took.append(time.perf_counter_ns() - began)
        # A rank leaves the all-reduce about one all-reduce after the last rank has entered it.
        self._margin_ns = MARGIN * max(values[0] for values in group.gather([median(took)]))

    def agree(self, stop: bool) -> tuple[float, bool]:
        """The moment on this rank's own clock, in ns, and whether any rank wants to stop."""
        import torch.distributed as dist

        offset = self._clock.offset_ns
        proposal = self._tensor([int(time.perf_counter_ns() - offset + self._margin_ns), int(stop)])
        dist.all_reduce(proposal, op=dist.ReduceOp.MAX)
        moment, stopping = proposal.tolist()
        return moment + offset, bool(stopping)

    def _tensor(self, values: list[int]) -> torch.Tensor:
        import torch

        return torch.tensor(values, dtype=torch.int64, device=self._group.device)


def wait_until(moment_ns: float) -> None:
    """Returns at `moment_ns` of this rank's clock, or at once if it has passed.

    Spins at the end only: on two CPUs, two ranks that spin take the time of the threads that carry their messages.
    """
    while (left := moment_ns - time.perf_counter_ns()) > 0:
        if left > SPIN_NS:
            time.sleep((left - SPIN_NS) / 1e9)
