"""The checks of yes or no: the GPU's state under load, memory kinds, what the link was and whether it was right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
import re

from roofprobe.acceptance import figures
from roofprobe.acceptance.always import MOST_TOLD
from roofprobe.acceptance.faults import OF_CHECK, faults_of
from roofprobe.acceptance.limits import CHECKS
from roofprobe.acceptance.verdict import Check, Verdict
from roofprobe.ceiling import Platform
from roofprobe.finding import Finding
from roofprobe.latency_record import LatencyPoint
from roofprobe.measurement import CollectiveMeasurement, CollectivePoint
from roofprobe.run_file import Run
from roofprobe.telemetry import Sampling


@dataclass(frozen=True)
class Evidence:
    """Everything that a run's folder says."""

    platform: Platform
    run: Run
    sampling: Sampling | None
    findings: tuple[Finding, ...]
    """The doctor's and the sampling's."""
    of_sampling: tuple[Finding, ...]


def no_cluster(platform: Platform, op: str) -> str:
    """Why there is no collective over the cluster's nodes, with the command that measures it."""
    hosts = ",".join(f"HOST{i + 1}" for i in range(platform.nodes))
    return (
        f"no {op} over {platform.nodes} hosts in this run: roofprobe launch --hosts {hosts} -- accept"
        f" --platform {platform.name} --nodes {platform.nodes}"
    )


def _plain(name: str, verdict: Verdict, reason: str | None = None, faults: tuple[Finding, ...] = ()) -> Check:
    return Check(check=name, title=CHECKS[name].title, verdict=verdict, reason=reason, faults=faults)


def _telemetry(found: Evidence) -> Check:
    sampling = found.sampling
    if sampling is None or not sampling.samples:
        told_why = [s.reason for s in found.run.skipped if s.probe == "telemetry"]
        return _plain("telemetry", "SKIP", told_why[0] if told_why else "no samples in the run's telemetry.jsonl")
    faults = tuple(f for f in found.of_sampling if f.severity == "fault")
    if faults:
        return _plain("telemetry", "FAIL", None, faults)
    open_ = [f.evidence for f in found.of_sampling if f.severity == "warning"]
    if open_:
        return _plain("telemetry", "INCONCLUSIVE", open_[0])
    missing = list(_untold(sampling))
    if missing:
        return _plain("telemetry", "INCONCLUSIVE", f"the sampling tells nothing of {' and '.join(missing)}")
    return _plain("telemetry", "PASS", f"{len(sampling.samples)} samples, {len(sampling.sentinels)} sentinels")


def _untold(sampling: Sampling) -> Iterator[str]:
    """What a GPU's state can't be told without: how it was clocked and why, and what it did meanwhile."""
    for field, name in (("sm_clock_mhz", "the SM clock"), ("reasons", "event reasons")):
        if all(getattr(sample, field) is None for sample in sampling.samples):
            yield name
    for sentinel in ("gemv", "copy"):
        if not sampling.of_side("device").of(sentinel):
            yield f"a {sentinel} of the GPU"


def _memory_kinds(found: Evidence) -> Check:
    name = "memory-kinds"
    rows = [m for m in found.run.measurements if m.probe == name]
    without = [f"{s.case}: {s.reason}" for s in found.run.skipped if s.probe == name]
    if not rows:
        return _plain(name, "SKIP", without[0] if without else "not measured in this run")
    wrong = [f"{m.format} read by the {m.side}: {m.wrong} elements wrong" for m in rows if m.wrong]
    if wrong:
        evidence = "; ".join(wrong)
        return _plain(name, "FAIL", None, faults_of(OF_CHECK[name], found.run.environment.host, evidence, ()))
    if any(m.wrong is None for m in rows):
        return _plain(name, "INCONCLUSIVE", "a kind's result was not checked")
    kinds = ", ".join(dict.fromkeys(m.format for m in rows))
    return _plain(name, "PASS", "; ".join([f"{kinds} read right", *(f"without {each}" for each in without)]))


def _rdma(found: Evidence) -> Check:
    name, nodes = "link-rdma", found.platform.nodes
    collectives = figures.across(found.run, nodes)
    if not collectives:
        return _plain(name, "SKIP", no_cluster(found.platform, "collective"))
    transports = list(dict.fromkeys(c.transport for c in collectives))
    if any(c.backend != "nccl" for c in collectives):
        return _plain(name, "INCONCLUSIVE", f"wrong backend: {transports[0]}; expected nccl")
    slow = [t for t in transports if re.search(r"\b(sockets|loopback)\b", t)]
    if slow:
        faults = faults_of(OF_CHECK[name], found.run.environment.host, f"transport: {slow[0]}", found.findings)
        return _plain(name, "FAIL", None, faults)
    if any("not proven" in t or not re.search(r"\b(RoCE|IB|RDMA)\b", t) for t in transports):
        return _plain(name, "INCONCLUSIVE", f"not proven to be RDMA: {transports[0]}")
    return _plain(name, "PASS", transports[0])


def _halves(found: Evidence) -> Check:
    name = "link-halves"
    rdma = _rdma(found)
    if rdma.verdict != "PASS":
        return _plain(name, "SKIP" if rdma.verdict == "SKIP" else "INCONCLUSIVE", rdma.reason or "the link is no RDMA")
    halves = found.platform.link.halves if found.platform.link else 1
    for transport in dict.fromkeys(c.transport for c in figures.across(found.run, found.platform.nodes)):
        over = re.search(r"\b(?:RoCE|IB|RDMA) over (.+?), \d+ ranks?\b", transport)
        devices = set(re.split(r", | and |\+", over[1])) if over else set()
        ports: dict[str, set[str]] = {}
        for device in devices:
            ports.setdefault(device[-2:], set()).add(device)
        if not ports:
            return _plain(name, "INCONCLUSIVE", f"no devices are named: {transport}")
        alone = [names for names in ports.values() if len(names) < halves]
        if alone:
            evidence = (
                f"{', '.join(sorted(alone[0]))} alone carried a port's bytes; expected {halves} halves ({transport})"
            )
            faults = faults_of(OF_CHECK[name], found.run.environment.host, evidence, found.findings)
            return _plain(name, "FAIL", None, faults)
    return _plain(name, "PASS", rdma.reason)


def _collectives_correct(found: Evidence) -> Check:
    name = "collectives-correct"
    collectives = figures.across(found.run, found.platform.nodes)
    points: list[tuple[CollectiveMeasurement, CollectivePoint | LatencyPoint]]
    points = [(c, p) for c in collectives for p in c.points]
    points += [(c, p) for c in collectives for p in c.latency if p.samples_us]
    if not points:
        return _plain(name, "SKIP", no_cluster(found.platform, "collective"))
    wrong = [f"{c.op} of {p.bytes} B: {p.wrong} elements wrong" for c, p in points if p.wrong]
    if wrong:
        evidence = "; ".join(wrong[:MOST_TOLD])
        return _plain(name, "FAIL", None, faults_of(OF_CHECK[name], found.run.environment.host, evidence, ()))
    unchecked = [c for c, p in points if p.wrong is None]
    if unchecked:
        return _plain(name, "INCONCLUSIVE", f"{len(unchecked)} of {len(points)} sizes were not checked")
    return _plain(name, "PASS", f"{len(points)} sizes checked")


YES_OR_NO: dict[str, Callable[[Evidence], Check]] = {
    "telemetry": _telemetry,
    "memory-kinds": _memory_kinds,
    "link-rdma": _rdma,
    "link-halves": _halves,
    "collectives-correct": _collectives_correct,
}
