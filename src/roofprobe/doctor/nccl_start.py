"""Why a communicator did not come up: versions that differ, and ranks that began and never completed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
import re

from roofprobe.doctor.case import Case
from roofprobe.doctor.jobs import Job, jobs
from roofprobe.finding import Finding
from roofprobe.nccl_log_summary import Init, ProcessLog

_MISMATCH = re.compile(r"Mismatched NCCL version detected ?: rank (\d+) version (\d+) rank (\d+) version (\d+)")
_GAVE_UP = re.compile(
    r"exceeded (?:error )?(?:retries|retry count|timeouts)|^Bootstrap Root : mismatch|has already checked in"
    r"|^Call to connect returned"
)
_ONE_VERSION = (
    "Install the same NCCL on every host and in every container: compare python -c 'import torch;"
    " print(torch.cuda.nccl.version())' and LD_LIBRARY_PATH, LD_PRELOAD, which may bring another library than the"
    " wheel's."
)


def version_mismatch(case: Case) -> Iterator[Finding]:
    """By NCCL's complaint, by the versions in a job's logs, and by the libraries that recorded hosts have loaded."""
    told = False
    for job in jobs(case):
        said = next(
            (found for p in job.processes for text in p.warnings.values() if (found := _MISMATCH.search(text))), None
        )
        versions = {_place(process, job): process.version for process in job.processes if process.version is not None}
        if said is not None:
            coded = {int(said[1]): _decoded(said[2]), int(said[3]): _decoded(said[4])}
            hosts = _hosts_by_rank(job)
            versions |= {hosts.get(rank, f"rank {rank}"): version for rank, version in coded.items()}
        if said is not None or len(set(versions.values())) > 1:
            told = True
            complaint = f"NCCL says: {said[0]}; " if said is not None else ""
            yield _mismatch(versions, f"{complaint}the logs' NCCL versions are", job.hosts)
    loaded = {
        host.name: found[0]
        for host in case.hosts
        if (found := re.match(r"\d+\.\d+(?:\.\d+)?", host.software.nccl_loaded or "")) is not None
    }
    if not told and len(set(loaded.values())) > 1:
        yield _mismatch(loaded, "the loaded NCCL libraries are", tuple(loaded))


def init_stuck(case: Case) -> Iterator[Finding]:
    """Ranks whose communicator began and never completed, once a job."""
    for job in jobs(case):
        stuck = unfinished(job)
        gave_up = [(p, text) for p in job.processes for text in p.warnings.values() if _GAVE_UP.search(text)]
        never = [(p, text) for p, text in gave_up if not p.completed]
        if not stuck and not never:
            continue
        hosts = tuple(dict.fromkeys([p.host for p, _, _ in stuck] or [p.host for p, _ in never]))
        shown = [f"rank {rank} of {ranks} on {p.host}" for p, (_, rank), ranks in stuck]
        done = sorted({rank for p in job.processes for _, rank in p.completed})
        absent = _absent(job)
        parts = [
            f"Init START without Init COMPLETE: {_some(shown)}" if shown else "no communicator was completed",
            f"rank {_some(map(str, done))} completed" if done else "no rank completed",
            f"no log shows that rank {_some(map(str, absent))} began" if absent else "",
            f"NCCL says on {gave_up[-1][0].host}: {gave_up[-1][1]}" if gave_up else "",
        ]
        yield Finding(
            id="nccl.init-stuck",
            severity="fault",
            host=", ".join(hosts),
            evidence="; ".join(filter(None, parts)),
            remedy="Check that every rank was started, that each host answers on the address of its Bootstrap line"
            " (ping, and no firewall: sudo ufw status), and that NCCL_SOCKET_IFNAME names that interface everywhere.",
        )


def unfinished(job: Job) -> list[tuple[ProcessLog, Init, int]]:
    """Each rank that began a communicator, did not complete it, and is not seen to by any line; with its ranks."""
    completed = {init for process in job.processes for init in process.completed}
    return [
        (process, init, ranks)
        for process in job.processes
        for init, ranks in process.started.items()
        if init not in (completed if init[0].startswith("0x") else process.completed)
    ]


def _absent(job: Job) -> list[int]:
    """Ranks of the whole job that no log is of; none where the logs are of a few ranks only."""
    seen = {rank for process in job.processes for _, rank in (*process.started, *process.completed)}
    missing = sorted(set(range(min(job.ranks or 0, 4096))) - seen)
    return missing if len(missing) < len(seen) else []


def _mismatch(versions: Mapping[str, str | None], what: str, hosts: tuple[str, ...]) -> Finding:
    usual = Counter(versions.values()).most_common()
    odd = [place for place, version in versions.items() if version != usual[0][0]]
    if len(usual) > 1 and usual[0][1] == usual[1][1]:
        odd = list(versions)  # nobody can say which of them is odd
    named = tuple(dict.fromkeys(place for place in odd if place in hosts)) or hosts
    listed = _some(f"{version} on {place}" for place, version in versions.items())
    return Finding(
        id="nccl.version-mismatch",
        severity="fault",
        host=", ".join(named),
        evidence=f"{what} {listed}; expected one version everywhere",
        remedy=_ONE_VERSION,
    )


def _place(process: ProcessLog, job: Job) -> str:
    """A process' host, or, where the job has one host alone, the process."""
    return process.host if len(job.hosts) > 1 else f"{process.host} (process {process.pid})"


def _hosts_by_rank(job: Job) -> dict[int, str]:
    return {process.rank: process.host for process in job.processes if process.rank is not None}


def _decoded(code: str) -> str:
    """``22809`` -> ``2.28.9``, as ncclGetVersion codes it."""
    number = int(code[:9])
    return f"{number // 10000}.{number // 100 % 100}.{number % 100}"


def _some(texts: Iterable[str]) -> str:
    listed = list(texts)
    return ", ".join(listed[:8]) + (f" and {len(listed) - 8} more" if len(listed) > 8 else "")
