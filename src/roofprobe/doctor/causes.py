"""Which fault follows from which: a person mends the cause, so the cause is what is reported.

A port without a cable leaves one half of the link, slow and unequal between hosts; that is one fault. A consequence
is taken out where its cause was found, and its evidence is added to the cause's. Where both are known to be on
different machines, only what crosses from one to the other is taken out: two units have two faults.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import msgspec

from roofprobe.doctor.case import Case
from roofprobe.finding import Finding, OwnFinding

_SLOW = frozenset({"link.nic-slow"})
_NO_START = frozenset({"nccl.init-stuck", "collective.hang", "link.retries-exhausted"})
"""Every host of the job waits, so the cause may be on any of them."""

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

FOLLOWS_ELSEWHERE: dict[str, frozenset[str]] = {
    "link.port-down": frozenset({"link.one-half", "link.nic-asymmetry", "link.socket-fallback"}),
    "link.halves-one-subnet": frozenset({"link.one-half"}),
    "link.nic-asymmetry": frozenset({"link.one-half"}),
}
"""Cause -> what it brings about at the cable's other end too, beside _NO_START, unless that is an OwnFinding.

Nothing else crosses: lanes, rates and settings act where they are, a slow link is named by both its ends, and a unit's
state slows that unit.
"""


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


def fold(findings: tuple[Finding, ...], case: Case) -> tuple[Finding, ...]:
    """The findings without those that follow from another one, whose evidence then says what followed."""
    causes = [f for f in findings if f.severity == "fault" and f.id in FOLLOWS]
    namings = _namings(case)
    cause_of = {f: cause for f in findings if (cause := _cause(f, causes, namings)) is not None}
    return tuple(
        _with(f, [each for each in findings if _root(each, cause_of) is f and each is not f])
        for f in findings
        if f not in cause_of
    )


def _namings(case: Case) -> list[frozenset[str]]:
    """The names of one input, with those of the inputs that share a name with it: each is another machine.

    Two inputs without a common name may call one machine by two: a recording is named by its file, a log's host by
    itself.
    """
    found: list[frozenset[str]] = []
    for names in (
        frozenset(host.name for host in case.hosts),
        frozenset(sampling.host for sampling in case.samplings),
        frozenset(process.host for process in case.processes),
        *(frozenset(link.hosts).union(*(_hosts(fault) for fault in link.faults)) for link in case.links),
    ):
        sharing = [each for each in found if each & names]
        found = [each for each in found if each not in sharing] + [names.union(*sharing)]
    return found


def _cause(finding: Finding, causes: list[Finding], namings: Sequence[frozenset[str]]) -> Finding | None:
    """The cause on the finding's own host, else on one of its hosts, else on any other that it can come from."""
    possible = [
        cause for cause in causes if _explains(cause, finding, namings) or _unlike_networks(cause, finding, causes)
    ]
    return min(possible, key=lambda c: (c.host != finding.host, _hosts(c).isdisjoint(_hosts(finding))), default=None)


def _explains(cause: Finding, finding: Finding, namings: Sequence[frozenset[str]]) -> bool:
    if cause.id == finding.id == "link.one-half":  # a half that one host leaves out idles on the other
        return isinstance(cause, OwnFinding) and not isinstance(finding, OwnFinding)
    if finding.id not in FOLLOWS[cause.id]:
        return False
    if finding.id in _NO_START or not _on_other_machines(cause, finding, namings):
        return True
    return not isinstance(finding, OwnFinding) and finding.id in FOLLOWS_ELSEWHERE.get(cause.id, ())


def _on_other_machines(one: Finding, other: Finding, namings: Sequence[frozenset[str]]) -> bool:
    """Whether no host of the one can be a host of the other, by whatever name."""
    return all(
        name != beside and any({name, beside} <= names for names in namings)
        for name, beside in product(_hosts(one), _hosts(other))
    )


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
