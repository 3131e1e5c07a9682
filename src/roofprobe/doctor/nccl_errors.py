"""A link that broke while it was in use: NCCL's errors of completions that never came and of a port that went down."""

from __future__ import annotations

from collections.abc import Iterator
import re

from roofprobe.doctor.case import Case
from roofprobe.finding import Finding
from roofprobe.nccl_log_summary import ProcessLog

_UNANSWERED = re.compile(r"Got completion from peer .*?(?:with error |status=\D{0,40})(?:12|13)\b")
"""IBV_WC_RETRY_EXC_ERR and IBV_WC_RNR_RETRY_EXC_ERR: the peer did not answer, however often it was asked."""
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
