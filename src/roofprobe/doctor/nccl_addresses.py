"""Where NCCL could not reach its peers: no interface to meet on, or a GID that the peers can't be reached by."""

from __future__ import annotations

from collections.abc import Iterator
import re

from roofprobe.doctor.case import Case
from roofprobe.doctor.jobs import jobs
from roofprobe.doctor.nccl_start import unfinished
from roofprobe.finding import Finding
from roofprobe.nccl_log_summary import ProcessLog

_NO_INTERFACE = re.compile(
    r"no (?:socket |usable listening |IP )?interface found|no device found (?:matching|after excluding)", re.IGNORECASE
)
_ELSEWHERE = re.compile(r"lo|docker\d*|br-[0-9a-f]+|virbr\d+|veth\w+|cni\d+|podman\d+")
"""Interfaces that lead to no other host."""
_SET_INTERFACE = (
    "Set NCCL_SOCKET_IFNAME to the interface that has the address by which the hosts reach each other"
    " (ip -br addr shows them; the name begins with what is set, = in front makes it exact)."
)
_GID_HINT = re.compile(r"HINT: .*NCCL_IB_GID_INDEX")
_MODIFY_FAILED = re.compile(
    r"Call to ibv_modify_qp failed with (?:error |\d+ )?(Invalid argument|Network is unreachable)"
)
_LOCAL_GID = re.compile(r"local GID (?:fe80:|N/A|::(?:,|$))|localGid fe80:")
_SUCCESSFUL_RETRY = re.compile(r"retrying \d+/\d+")


def logged_interface(case: Case) -> Iterator[Finding]:
    """NCCL's complaint, and a stuck start whose hosts were to meet on an interface that leads to no other host."""
    told: set[str] = set()
    stuck = {process.host: process for job in jobs(case) if not job.within_a_host for process, _, _ in unfinished(job)}
    for process in case.processes:
        said = next((text for text in process.warnings.values() if _NO_INTERFACE.search(text)), None)
        lost = process.host in stuck and process.bootstrap is not None and _ELSEWHERE.fullmatch(process.bootstrap)
        if process.host in told or not (said or lost):
            continue
        told.add(process.host)
        shown = said or f"Bootstrap : Using {process.bootstrap}, which leads to no other host, and the start is stuck"
        yield Finding(
            id="link.interface-wrong",
            severity="fault",
            host=process.host,
            evidence=f"NCCL says: {shown}{_set(process, 'NCCL_SOCKET_IFNAME', 'NCCL_OOB_NET_IFNAME')}",
            remedy=_SET_INTERFACE,
        )
    for log in case.logs:
        hosts = log.hosts
        if log.no_interface and told.isdisjoint(hosts):
            told.update(hosts)
            yield Finding(
                id="link.interface-wrong",
                severity="fault",
                host=", ".join(hosts),
                evidence=f"{log.path.name} says: {log.no_interface[0]}",
                remedy=_SET_INTERFACE.replace("NCCL_", "GLOO_") if "Unable" in log.no_interface[0] else _SET_INTERFACE,
            )


def logged_gid(case: Case) -> Iterator[Finding]:
    """What NCCL itself explains by the GID, and a queue pair that could not be set up from a GID of the link's own."""
    told: set[str] = set()
    for process in case.processes:
        said = _gid_trouble(process)
        if said is None or process.host in told:
            continue
        told.add(process.host)
        yield Finding(
            id="link.gid-wrong",
            severity="fault",
            host=process.host,
            evidence=f"NCCL says: {said}{_set(process, 'NCCL_IB_GID_INDEX')}; expected the index of a RoCE v2 GID"
            " over IPv4",
            remedy="Unset NCCL_IB_GID_INDEX (or set it to -1) so that NCCL finds the index, or set the one that"
            " show_gids lists as v2 with the link's IPv4 address, usually 3; the address has to be set on both ends.",
        )


def _gid_trouble(process: ProcessLog) -> str | None:
    texts = list(process.warnings.values())
    hint = next((text for text in texts if _GID_HINT.search(text)), None)
    failed = [(text, found[1]) for text in texts if (found := _MODIFY_FAILED.search(text))]
    if hint is not None:
        return "; ".join([*(text for text, _ in failed[:1]), hint])
    forced = process.environment.get("NCCL_IB_GID_INDEX", "-1") not in ("", "-1")
    for text, error in failed:
        if not _SUCCESSFUL_RETRY.search(text) and (error == "Invalid argument" or forced or _LOCAL_GID.search(text)):
            return text
    return None


def _set(process: ProcessLog, *names: str) -> str:
    found = [f"{name}={process.environment[name]}" for name in names if name in process.environment]
    return f"; {', '.join(found)} is set" if found else ""
