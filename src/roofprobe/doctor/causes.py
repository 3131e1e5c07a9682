"""Which fault follows from which: a person mends the cause, so the cause is what is reported.

A port without a cable leaves one half of the link, slow and unequal between hosts; that is one fault. A consequence
is taken out where its cause was found, on any host for what a group of ranks shares, and its evidence is added to the
cause's.
"""

from __future__ import annotations

import msgspec

from roofprobe.finding import Finding

_SLOW = frozenset({"link.nic-slow"})
_NO_START = frozenset({"nccl.init-stuck", "collective.hang", "link.retries-exhausted"})

FOLLOWS: dict[str, frozenset[str]] = {
    "nccl.version-mismatch": _NO_START,
    "nccl.memlock-limit": _NO_START | {"link.socket-fallback"},
    "link.interface-wrong": _NO_START | {"link.socket-fallback"},
    "link.port-down": _NO_START | _SLOW | {"link.one-half", "link.nic-asymmetry", "link.socket-fallback"},
    "link.port-slow": _SLOW | {"link.one-half"},
    "link.pcie-narrow": _SLOW | {"link.one-half"},
    "link.gid-wrong": _NO_START | {"link.socket-fallback"},
    "link.halves-one-subnet": _NO_START | _SLOW | {"link.one-half"},
    "link.address-duplicate": _NO_START,
    "link.nic-asymmetry": _NO_START | _SLOW | {"link.one-half"},
    "link.one-half": _SLOW,
    "link.mtu-mismatch": _NO_START | _SLOW,
    "link.flapping": _NO_START | _SLOW,
    "link.retries-exhausted": frozenset({"collective.hang", "nccl.init-stuck"}),
    "link.socket-fallback": _SLOW,
    "nccl.init-stuck": frozenset({"collective.hang"}),
    "unit.low-power-state": frozenset({"unit.slow-rank"}),
    "unit.hidden-slow-state": frozenset({"unit.slow-rank"}),
    "unit.thermal": frozenset({"unit.slow-rank"}),
    "unit.periodic-stall": frozenset({"unit.slow-rank"}),
    "unit.slow-rank": frozenset({"unit.slow-memory"}),
}
"""Cause -> what it brings about. Nothing follows from a warning: a suspicion explains no fault."""


def once(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """Each id once a host, whichever rules found it; what is said of several hosts belongs to the one that is named."""
    kept: list[Finding] = []
    for finding in sorted(findings, key=lambda each: (each.severity != "fault", len(_hosts(each)))):
        same = next((k for k in kept if k.id == finding.id and _hosts(k) <= _hosts(finding)), None)
        if same is None:
            kept.append(finding)
        else:
            kept[kept.index(same)] = msgspec.structs.replace(same, evidence=f"{same.evidence}; {finding.evidence}")
    return tuple(kept)


def _hosts(finding: Finding) -> frozenset[str]:
    return frozenset(finding.host.split(", "))


def fold(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """The findings without those that follow from another one, whose evidence then says what followed."""
    causes = [f for f in findings if f.severity == "fault" and f.id in FOLLOWS]
    cause_of = {f: cause for f in findings if (cause := _cause(f, causes)) is not None}
    return tuple(
        _with(f, [each for each in findings if _root(each, cause_of) is f and each is not f])
        for f in findings
        if f not in cause_of
    )


def _cause(finding: Finding, causes: list[Finding]) -> Finding | None:
    """The cause on the finding's own host, and else on any."""
    possible = [
        cause for cause in causes if finding.id in FOLLOWS[cause.id] or _unlike_networks(cause, finding, causes)
    ]
    return next((c for c in possible if c.host == finding.host), next(iter(possible), None))


def _unlike_networks(cause: Finding, finding: Finding, causes: list[Finding]) -> bool:
    """Sockets on some hosts of a job that is stuck, and RDMA on others: those never meet. Sockets everywhere work."""
    if cause.id != "link.socket-fallback" or finding.id not in _NO_START:
        return False
    on_sockets = frozenset().union(*(_hosts(each) for each in causes if each.id == cause.id))
    return not _hosts(finding) <= on_sockets


def _root(finding: Finding, cause_of: dict[Finding, Finding]) -> Finding:
    while finding in cause_of:
        finding = cause_of[finding]
    return finding


def _with(cause: Finding, consequences: list[Finding]) -> Finding:
    if not consequences:
        return cause
    told = "; ".join(f"{f.id} on {f.host}: {f.evidence}" for f in consequences)
    return msgspec.structs.replace(cause, evidence=f"{cause.evidence}. It explains {told}")
