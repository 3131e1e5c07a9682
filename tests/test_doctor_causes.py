"""What is taken for a consequence, for every cause: on its own host, on another machine, and under another name."""

from __future__ import annotations

import msgspec
import pytest

from roofprobe.doctor.case import Case, MeasuredLink
from roofprobe.doctor.causes import FOLLOWS, fold
from roofprobe.doctor.host import Host, Software, look
from roofprobe.finding import Finding, OwnFinding
from roofprobe.recording import RecordedTree
from roofprobe.telemetry import Sampling

A, B, C, NODE = "spark-a", "spark-b", "spark-c", "node1"
WHOLE_JOB = ("nccl.init-stuck", "collective.hang", "link.retries-exhausted")
OTHER_END = {
    ("link.port-down", "link.one-half"),
    ("link.port-down", "link.nic-asymmetry"),
    ("link.port-down", "link.socket-fallback"),
    ("link.halves-one-subnet", "link.one-half"),
    ("link.nic-asymmetry", "link.one-half"),
}
PAIRS = [(cause, effect) for cause, effects in FOLLOWS.items() for effect in sorted(effects)]


def recorded(*names: str) -> tuple[Host, ...]:
    return tuple(look(name, RecordedTree({}), Software(), None) for name in names)


def measured(*hosts: str, faults: tuple[Finding, ...] = ()) -> MeasuredLink:
    return MeasuredLink(
        source="m.json", collective=None, ranks=2, bytes=0, busbw_gb_per_s=0.0, hosts=hosts, faults=faults
    )


def sampled(host: str) -> Sampling:
    return Sampling(host=host, samples=(), sentinels=())


def fault(id_: str, host: str, kind: type[Finding] = Finding) -> Finding:
    return kind(id=id_, severity="fault", host=host, evidence=f"seen on {host}", remedy="Mend it.")


def left(case: Case, *findings: Finding) -> list[tuple[str, str]]:
    return [(finding.id, finding.host) for finding in fold(findings, case)]


@pytest.mark.parametrize(("cause", "effect"), PAIRS)
def test_where_a_consequence_is_taken_for_one(cause: str, effect: str) -> None:
    first = fault(cause, A)
    case = Case(hosts=recorded(A, B))
    assert left(case, first, fault(effect, A)) == [(cause, A)]
    assert left(case, first, fault(effect, f"{A}, {B}")) == [(cause, A)]
    assert left(case, first, fault(effect, NODE)) == [(cause, A)]  # who knows which machine that is
    crosses = effect in WHOLE_JOB or (cause, effect) in OTHER_END
    assert left(case, first, fault(effect, B)) == [(cause, A)] + ([] if crosses else [(effect, B)])
    own = fault(effect, B, OwnFinding)
    assert left(case, first, own) == [(cause, A)] + ([] if effect in WHOLE_JOB else [(effect, B)])


@pytest.mark.parametrize(
    ("case", "machines"),
    [
        (Case(hosts=recorded(A, B)), 2),
        (Case(hosts=recorded(A), measured=(measured(B, C),)), 1),
        (Case(hosts=recorded(A), measured=(measured(A, B),)), 2),
        (Case(hosts=recorded(A, C), measured=(measured(B, C),)), 2),
        (Case(measured=(measured(A, C), measured(B, NODE), measured(C, NODE))), 2),
        (Case(measured=(measured(A, faults=(fault("unit.slow-memory", B),)),)), 2),
        (Case(samplings=(sampled(A), sampled(B))), 2),
        (Case(hosts=recorded(A), samplings=(sampled(B),)), 1),
        (Case(), 1),
    ],
    ids=["recordings", "other names", "one table", "a shared name", "three tables", "a proof", "samplings",
         "files of two kinds", "nothing"],
)  # fmt: skip
def test_names_of_one_machine_or_of_two(case: Case, machines: int) -> None:
    """A slow unit follows from heat where both names may be one unit's."""
    assert len(left(case, fault("unit.thermal", A), fault("unit.slow-rank", B))) == machines


def test_a_cause_on_the_findings_own_host_is_preferred() -> None:
    causes = fault("link.port-down", C), fault("link.port-down", B)
    found = fold((*causes, fault("link.one-half", f"{A}, {B}")), Case(hosts=recorded(A, B, C)))
    assert [(f.host, "link.one-half" in f.evidence) for f in found] == [(C, False), (B, True)]


def test_halves_that_idle_on_both_hosts_do_not_explain_each_other() -> None:
    case = Case(hosts=recorded(A, B))
    halves = fault("link.one-half", A), fault("link.one-half", B)
    assert len(left(case, *halves)) == 2
    pinned = fault("link.one-half", B, OwnFinding)
    assert left(case, halves[0], pinned) == [("link.one-half", B)]
    assert len(left(case, fault("link.one-half", A, OwnFinding), pinned)) == 2


def test_a_consequence_of_a_consequence_is_told_with_the_cause() -> None:
    found = fold(
        (fault("link.port-down", A), fault("link.one-half", B), fault("link.nic-slow", B)), Case(hosts=recorded(A, B))
    )
    assert [f.evidence for f in found] == [
        f"seen on {A}. It explains link.one-half on {B}: seen on {B}; link.nic-slow on {B}: seen on {B}"
    ]


def test_an_own_finding_is_written_as_any_other() -> None:
    plain, own = fault("link.one-half", A), fault("link.one-half", A, OwnFinding)
    assert msgspec.to_builtins([own]) == msgspec.to_builtins([plain])
