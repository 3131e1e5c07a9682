"""Which processes of the logs ran together: those that share a communicator, and parts of one that is nowhere whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from roofprobe.doctor.case import Case
from roofprobe.nccl_log_summary import ProcessLog


@dataclass(frozen=True)
class Job:
    """Processes of one job; its logs may be there in part."""

    processes: tuple[ProcessLog, ...]

    @property
    def hosts(self) -> tuple[str, ...]:
        """Each once, in the order of the logs."""
        return tuple(dict.fromkeys(process.host for process in self.processes))

    @property
    def ranks(self) -> int | None:
        """Of its largest communicator."""
        sizes = [size for process in self.processes for size in process.started.values() or process.completed.values()]
        return max(sizes, default=None)

    @property
    def within_a_host(self) -> bool:
        """Whether nothing had to cross to another host: NCCL says so, or every rank and connection is seen to be."""
        if any(each.kind == "NET" for process in self.processes for each in process.connections):
            return False
        nodes = [process.nodes for process in self.processes if process.nodes is not None]
        if nodes:
            return max(nodes) == 1
        if len(self.hosts) > 1:
            return False
        seen = {rank for process in self.processes for _, rank in (*process.started, *process.completed)}
        whole = self.ranks is not None and len(seen) >= self.ranks
        return whole or any(process.connections for process in self.processes)


def jobs(case: Case) -> tuple[Job, ...]:
    """All of them, in the order of the logs. A process that names no communicator belongs to the only job, if any."""
    groups: list[list[ProcessLog]] = []
    of: dict[str, list[ProcessLog]] = {}
    for process in case.processes:
        names = _shared(process)
        mine = list({id(of[name]): of[name] for name in names if name in of}.values()) or [[]]
        group, others = mine[0], mine[1:]
        for other in others:
            group += other
            of |= dict.fromkeys((name for each in other for name in _shared(each)), group)
        groups = [each for each in groups if not any(each is other for other in others)]
        if not group:
            groups.append(group)
        group.append(process)
        of |= dict.fromkeys(names, group)
    return tuple(Job(tuple(group)) for group in _put_together(groups))


def _shared(process: ProcessLog) -> set[str]:
    """The communicators by which a process can be told to belong to others: not those split off, which have no id."""
    return {name for name, _ in (*process.started, *process.completed) if name.startswith("0x")}


def _put_together(groups: Iterable[list[ProcessLog]]) -> Iterator[list[ProcessLog]]:
    """Joins groups that miss ranks which others of the same size have: logs whose first lines are gone, or differ."""
    left = [(group, Job(tuple(group)).ranks, _ranks(group)) for group in groups]
    while left:
        group, size, ranks = left[0]
        apart = []
        for other in left[1:]:
            if _fit(size, ranks, *other[1:]):
                group, size, ranks = [*group, *other[0]], size or other[1], ranks | other[2]
            else:
                apart.append(other)
        yield group
        left = apart


def _fit(size: int | None, ranks: set[int], other_size: int | None, others: set[int]) -> bool:
    if size is None or other_size is None:
        return True
    return size == other_size and ranks.isdisjoint(others) and len(ranks) + len(others) <= size


def _ranks(group: list[ProcessLog]) -> set[int]:
    return {rank for process in group for _, rank in (*process.started, *process.completed)}
