"""Software that is too old for the chip: ptxas, which Triton brings along."""

from __future__ import annotations

from collections.abc import Iterator

from roofprobe.doctor.case import Case
from roofprobe.doctor.software import SM_121_SINCE, ptxas_version
from roofprobe.finding import Finding

_REMEDY = (
    "Have Triton take CUDA 13's ptxas: export TRITON_PTXAS_PATH=/usr/local/cuda/bin/ptxas (ptxas --version shows"
    " release 13.0 or later), and clear ~/.triton/cache; or install a Triton that brings it."
)


def ptxas_too_old(case: Case) -> Iterator[Finding]:
    """ptxas' own error in a log, or on a GB10 a version that can't know sm_121; one a host."""
    told: set[str] = set()
    for log in case.logs:
        hosts = [host for host in log.hosts if host not in told]
        if log.ptxas_errors and hosts:
            told |= set(hosts)
            yield _finding(", ".join(hosts), f"{log.path.name} says: {log.ptxas_errors[0]}")
    since = ".".join(map(str, SM_121_SINCE))
    for host in case.hosts:
        found = ptxas_version(host.software.ptxas or "")
        if host.is_gb10 and host.name not in told and found is not None and found < SM_121_SINCE:
            yield _finding(
                host.name,
                f"software.json: ptxas is of CUDA {found[0]}.{found[1]}; GB10's sm_121 needs {since} or later",
            )


def _finding(host: str, evidence: str) -> Finding:
    return Finding(id="software.ptxas-too-old", severity="fault", host=host, evidence=evidence, remedy=_REMEDY)
