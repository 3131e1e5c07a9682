"""A collective that never ended: what PyTorch's watchdog or roofprobe's own watch wrote, and which rank stood aside.

Every rank that waits says so when its time is up. So a rank that says nothing, that is behind in its count of
collectives, or that only heard of the others' trouble, is the one that they waited for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePath
import re

from roofprobe.doctor.case import Case
from roofprobe.finding import Finding
from roofprobe.nccl_log_summary import ProcessLog

_TIMEOUT = re.compile(r"Watchdog caught collective operation timeout|WorkNCCL\(SeqNum=.*(?:ran for \d|timed out)")
_WORK = re.compile(r"WorkNCCL\(SeqNum=(\d{1,18}), OpType=(\w{1,64})")
_RAN = re.compile(r"ran for (\d{1,15}) milliseconds")
_RANK = re.compile(r"Rank (\d{1,7})\]")
_LAUNCHED = re.compile(r"\[(?:rank|default)(\d{1,7})\]")
_COUNTS = re.compile(r"last enqueued (?:NCCL )?work: (-?\d{1,18}),.*?last completed (?:NCCL )?work: (-?\d{1,18})")
_STUCK = re.compile(r"watchdog got stuck for|eartbeat monitor timed out|Timed out waiting \d+ ?ms for (?:recv|send)")
_BARRIER = re.compile(r"Ranks? ([\d, ]{1,400}) (timed out in|failed to pass) monitoredBarrier")
_TOLD = re.compile(r"Observed flight recorder dump signal from another rank")
_LAGGING = re.compile(r"ranks \[([\d, ]{1,400})\] are the lagging ranks")
_BEHIND = re.compile(r"\[([\d, ]{1,400})\] finished collective #\d+, but didn't join collective #(\d+)")
_OWN = re.compile(
    r"(?:rank (\d{1,7}) on (\S{1,255}) .{0,300}?(?:stopped answering|is late: no progress|is cut off: |died in )"
    r"|all ranks have waited for).{0,300}"
)


@dataclass
class _Told:
    """What all lines of one job say together."""

    waited: dict[int | None, str] = field(default_factory=dict)
    """Rank -> its operation, in words; None where a line names no rank."""
    enqueued: dict[int, int] = field(default_factory=dict)
    suspects: dict[int, str] = field(default_factory=dict)
    """Rank -> why."""
    own: list[tuple[str | None, str]] = field(default_factory=list)
    """Host and words of roofprobe's own verdicts."""


def collective_hang(case: Case) -> Iterator[Finding]:
    """One for everything that is given: a hang is one, whoever tells of it."""
    lines = [line for log in case.logs for line in log.hangs] + [line for m in case.measured for line in m.hangs]
    told = _read(lines)
    if not (told.waited or told.own):
        return
    processes = case.processes
    named = [rank for rank in (*told.waited, *told.enqueued) if rank is not None]
    ranks = max([1 + rank for rank in named] + [process.ranks or 0 for process in processes], default=0)
    if not told.suspects:
        _suspect(told, ranks)
    hosts = {process.rank: process.host for process in processes if process.rank is not None}
    yield Finding(
        id="collective.hang",
        severity="fault",
        host=_host(case, told, hosts, processes),
        evidence="; ".join(_evidence(told, hosts, ranks)),
        remedy=_remedy(told, hosts),
    )


def _read(lines: Iterable[str]) -> _Told:
    told = _Told()
    for line in lines:
        named = _RANK.search(line) or _LAUNCHED.search(line)
        rank = int(named[1]) if named else None
        if _TIMEOUT.search(line) or _STUCK.search(line):
            work = _operation(line) or f"an operation that its line does not name: {line[:200]}"
            if rank not in told.waited or _WORK.search(line):
                told.waited[rank] = work
        counts = _COUNTS.search(line)
        if counts and rank is not None:
            told.enqueued[rank] = int(counts[1])
        if _TOLD.search(line) and rank is not None:
            told.suspects.setdefault(rank, "did not wait itself and only heard of the others' trouble")
        for pattern, why in ((_LAGGING, "never joined a collective"), (_BEHIND, "did not join the next collective")):
            for found in pattern.finditer(line):
                told.suspects |= dict.fromkeys(_numbers(found[1]), why)
        for at, what in _BARRIER.findall(line):
            which = _numbers(at)
            if what == "timed out in":
                told.waited |= dict.fromkeys(which, "a monitoredBarrier")
            else:
                told.waited.setdefault(None, "a monitoredBarrier")
                told.suspects |= dict.fromkeys(which, "did not come to the barrier")
        own = _OWN.search(line)
        if own:
            told.own.append((own[2], own[0]))
    # Whoever waited can't be the one who was waited for, except where the counts say so below.
    told.suspects = {rank: why for rank, why in told.suspects.items() if rank not in told.waited}
    return told


def _numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d{1,7}", text)]


def _operation(line: str) -> str:
    work, ran = _WORK.search(line), _RAN.search(line)
    waited = f" for {int(ran[1]) / 1000:.0f} s" if ran else ""
    return f"{work[2]} number {work[1]}{waited}" if work else ""


def _suspect(told: _Told, ranks: int) -> None:
    """Ranks behind the others in what they have begun, else those of which nothing is heard."""
    if len(set(told.enqueued.values())) > 1:
        least = min(told.enqueued.values())
        behind = {rank for rank, count in told.enqueued.items() if count == least}
        if len(behind) < len(told.enqueued):
            told.suspects = dict.fromkeys(behind, f"has begun {least} collectives, fewer than the others")
            return
    waited = {rank for rank in told.waited if rank is not None}
    if waited and len(waited) < min(ranks, 4096):
        told.suspects = {rank: "has not reported" for rank in range(ranks) if rank not in waited}


def _evidence(told: _Told, hosts: dict[int, str], ranks: int) -> Iterator[str]:
    by_work: dict[str, list[int]] = {}
    for rank, work in told.waited.items():
        # Times differ by milliseconds; operation and number tell the ranks apart.
        by_work.setdefault(work, []).extend([] if rank is None else [rank])
    for work, waiting in list(by_work.items())[:4]:
        who = f"rank {_ranks(waiting, hosts)} waited in vain in" if waiting else "a watchdog gave up"
        yield f"{who} {work}"
    for _, words in told.own[:2]:
        yield words
    for rank, why in list(told.suspects.items())[:8]:
        yield f"rank {_ranks([rank], hosts)} {why}"
    if told.waited and not told.suspects and ranks > 1:
        yield f"all {ranks} ranks waited: none stands out"


def _remedy(told: _Told, hosts: dict[int, str]) -> str:
    if told.suspects:
        where = f"rank {_ranks(list(told.suspects)[:8], hosts)}"
    else:
        where = "every rank"
    return (
        f"Look at {where} first: is the process alive (py-spy dump --pid PID), is its GPU at work (nvidia-smi), did the"
        " kernel complain (sudo dmesg), is its link up; then run again with TORCH_NCCL_TRACE_BUFFER_SIZE=2000."
    )


def _host(case: Case, told: _Told, hosts: dict[int, str], processes: tuple[ProcessLog, ...]) -> str:
    """The suspects' where they are known, else all that are."""
    named = [host for host, _ in told.own if host] or [hosts[rank] for rank in told.suspects if rank in hosts]
    known = named or [process.host for process in processes] or [host for m in case.links for host in m.hosts]
    files = [host for log in case.logs if log.hangs for host in log.hosts] or [
        PurePath(m.source).stem for m in case.measured
    ]
    return ", ".join(dict.fromkeys(known or files))


def _ranks(ranks: list[int], hosts: dict[int, str]) -> str:
    shown = [f"{rank} ({hosts[rank]})" if rank in hosts else str(rank) for rank in sorted(ranks)[:8]]
    return ", ".join(shown) + (f" and {len(ranks) - 8} more" if len(ranks) > 8 else "")
