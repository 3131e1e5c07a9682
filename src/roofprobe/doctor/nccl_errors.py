"""What verbs report to NCCL: completions that never came, a port that went down, memory that could not be locked."""

from __future__ import annotations

from collections.abc import Iterator
import re

from roofprobe.doctor.case import Case
from roofprobe.finding import Finding
from roofprobe.nccl_log_summary import ProcessLog

_UNANSWERED = re.compile(r"Got completion from peer .*?(?:with error |status=\D{0,40})(?:12|13)\b")
"""IBV_WC_RETRY_EXC_ERR and IBV_WC_RNR_RETRY_EXC_ERR: the peer did not answer, however often it was asked."""
_NOT_LOCKED = re.compile(r"Call to ibv_(?:reg_mr|create_(?:cq|qp|srq))\w* failed.*?(?:Cannot allocate memory|\b12\b)")
"""ENOMEM where memory is registered, or a queue is made in registered memory: mostly the limit on locked memory."""
_PORT_ERROR = re.compile(r"async (?:fatal )?event ?: port error")


def retries_exhausted(case: Case) -> Iterator[Finding]:
    for host, said in _first(case, _UNANSWERED).items():
        yield Finding(
            id="link.retries-exhausted",
            severity="fault",
            host=host,
            evidence=f"NCCL says: {said}; expected every message to be acknowledged",
            remedy="Try the link without NCCL: ping -M do -s 8972 the peer's address on each half, then ib_write_bw -d"
            " DEVICE on both hosts; set the same MTU and leave NCCL_IB_GID_INDEX unset at both ends, reseat the cable.",
        )


def port_lost(case: Case) -> Iterator[Finding]:
    for host, said in _first(case, _PORT_ERROR).items():
        yield Finding(
            id="link.flapping",
            severity="fault",
            host=host,
            evidence=f"NCCL says: {said}: the port went down during the run; expected it to stay up",
            remedy="Reseat or exchange the cable of that port, and watch sudo dmesg --follow and link_downed for"
            " another fall while it runs.",
        )


def memory_not_locked(case: Case) -> Iterator[Finding]:
    for host, said in _first(case, _NOT_LOCKED).items():
        yield Finding(
            id="nccl.memlock-limit",
            severity="fault",
            host=host,
            evidence=f"NCCL says: {said}; expected its buffers to be locked in memory for RDMA",
            remedy="Run with ulimit -l unlimited: start the container with --ulimit memlock=-1 --cap-add=IPC_LOCK, or"
            " set memlock to unlimited in /etc/security/limits.conf and log in again; see that free -h shows memory.",
        )


def _first(case: Case, pattern: re.Pattern[str]) -> dict[str, str]:
    """Host -> its first warning of that kind."""
    found: dict[str, str] = {}
    for process in case.processes:
        said = _warning(process, pattern)
        if said is not None:
            found.setdefault(process.host, said)
    return found


def _warning(process: ProcessLog, pattern: re.Pattern[str]) -> str | None:
    return next((text for text in process.warnings.values() if pattern.search(text)), None)
