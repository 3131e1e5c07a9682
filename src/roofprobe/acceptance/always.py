"""The checks that every acceptance has, whatever its platform file says: they need no limit and can't be left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from roofprobe.acceptance.estimates import NO_TIME, impossible_row, possible
from roofprobe.acceptance.faults import IMPLAUSIBLE, WRONG_RESULT, faults_of
from roofprobe.acceptance.figures import impossible_curve
from roofprobe.acceptance.limits import CHECKS
from roofprobe.acceptance.verdict import Check
from roofprobe.ceiling import Platform
from roofprobe.finding import Finding
from roofprobe.measurement import IMPOSSIBLE_ABOVE
from roofprobe.run_file import Run

MOST_TOLD = 4
"""Rows that a fault's evidence names; the records have the others."""


def machine(platform: Platform, run: Run) -> Check | None:
    """Whether the run is of the platform's machine at all; None for a platform that names neither GPU nor product."""
    if not platform.match.gpu:
        return _product(platform, run) if platform.match.product else None
    title = f"the GPU is {' or '.join(platform.match.gpu)}"
    found = [device.name for device in run.environment.devices]
    if not found:
        driver = run.environment.driver
        told = "torch finds no CUDA device" + (f", although driver {driver} is loaded" if driver else "")
        return Check(check="machine", title=title, verdict="SKIP", reason=told)
    others = sorted({name for name in found if name not in platform.match.gpu})
    if others:
        return Check(
            check="machine",
            title=title,
            verdict="INCONCLUSIVE",
            reason=f"found {', '.join(others)}, which is no {platform.name}; give --platform that names this machine",
        )
    alone = f"only GPU 0 of {len(found)} is judged; CUDA_VISIBLE_DEVICES chooses another"
    reason = run.environment.product if len(found) == 1 else alone
    return Check(check="machine", title=title, verdict="PASS", reason=reason)


def _product(platform: Platform, run: Run) -> Check:
    """By the firmware's word, where CUDA has none."""
    title = f"the machine is {' or '.join(platform.match.product)}"
    found = run.environment.product
    if found is not None and platform.has_product(found):
        return Check(check="machine", title=title, verdict="PASS", reason=found)
    told = "the firmware names no product" if found is None else f"found {found}, which is no {platform.name}"
    reason = f"{told}; give --platform that names this machine"
    return Check(check="machine", title=title, verdict="INCONCLUSIVE", reason=reason)


def complete(run: Run) -> Check:
    """Whether the run came to its own end."""
    title = "the run ended by itself"
    if run.ended is None:
        return Check(
            check="complete", title=title, verdict="INCONCLUSIVE", reason="it crashed, was killed or still runs"
        )
    if run.ended.interrupted:
        return Check(check="complete", title=title, verdict="INCONCLUSIVE", reason="it was interrupted")
    return Check(check="complete", title=title, verdict="PASS")


def doctor(findings: Sequence[Finding] | None) -> Check:
    """Whether the doctor found a fault; None: nobody asked it."""
    title = "doctor: no fault found"
    if findings is None:
        return Check(check="doctor", title=title, verdict="SKIP", reason="no doctor.json in the run's folder")
    faults = tuple(f for f in findings if f.severity == "fault")
    warnings = list(dict.fromkeys(f.id for f in findings if f.severity == "warning"))
    beside = f"warnings: {', '.join(warnings)}" if warnings else None
    if faults:
        return Check(check="doctor", title=title, verdict="FAIL", reason=beside, faults=faults)
    if any(f.id == "reading.inconclusive" for f in findings):
        return Check(check="doctor", title=title, verdict="INCONCLUSIVE", reason=beside)
    return Check(check="doctor", title=title, verdict="PASS", reason=beside)


def results_correct(platform: Platform, run: Run) -> Check:
    """Whether every checked result of the machine's own work is right; a platform may ask for the link's alone."""
    title = "every result right"
    own = [m for m in run.measurements if not m.is_baseline or m.probe == "memory-kinds"]
    wrong = [f"{m.side} {m.op} {m.format}: {m.wrong} elements" for m in own if m.wrong]
    wrong += [f"{s.side} sentinel {s.sentinel} {s.phase}: {s.wrong} elements" for s in run.sentinels if s.wrong]
    wrong += [f"{m.side} matrix product: {m.wrong} elements" for m in run.matmuls if m.wrong]
    wrong += [f"{c.op} by {' and '.join(c.sides)}: {c.wrong} elements" for c in run.contentions if c.wrong]
    wrong += [f"{c.op} of {p.bytes} B: {p.wrong} elements" for c in run.collectives for p in c.points if p.wrong]
    wrong += [f"{c.op} of {p.bytes} B: {p.wrong} elements" for c in run.collectives for p in c.latency if p.wrong]
    if wrong:
        return Check(
            check="results-correct",
            title=title,
            verdict="FAIL",
            faults=faults_of(WRONG_RESULT, run.environment.host, _some(wrong, "result"), ()),
        )
    if not own:
        asked = any(not CHECKS[name].cluster for name in platform.checks)
        reason = "no row was measured"
        return Check(check="results-correct", title=title, verdict="SKIP", required=asked, reason=reason)
    unchecked = sum(1 for m in own if m.wrong is None)
    if unchecked:
        reason = f"{unchecked} of {len(own)} rows were not checked"
        return Check(check="results-correct", title=title, verdict="INCONCLUSIVE", reason=reason)
    return Check(check="results-correct", title=title, verdict="PASS", reason=f"{len(own)} rows checked")


def readings_plausible(platform: Platform, run: Run) -> Check:
    """Whether no reading is above what memory, arithmetic or link can do."""
    title = "no impossible reading"
    found = list(_impossible(platform, run))
    if found:
        return Check(
            check="readings-plausible",
            title=title,
            verdict="FAIL",
            faults=faults_of(IMPLAUSIBLE, run.environment.host, _some(found, "reading"), ()),
        )
    if platform.memory.nominal_gb_per_s is None:
        reason = "no nominal ceiling is known for this platform"
        return Check(check="readings-plausible", title=title, verdict="SKIP", required=False, reason=reason)
    if not run.measurements:
        return Check(check="readings-plausible", title=title, verdict="SKIP", reason="no row was measured")
    return Check(check="readings-plausible", title=title, verdict="PASS")


def _impossible(platform: Platform, run: Run) -> Iterator[str]:
    for m in run.measurements:
        text = impossible_row(m, platform.nominal_gb_per_s(m.side))
        if text is not None:
            yield f"{m.side} {m.op} {m.format}: {text}"
    for s in run.sentinels:
        nominal = platform.nominal_gb_per_s(s.side)
        if s.invalid is not None and not s.wrong:
            yield f"{s.side} sentinel {s.sentinel}: {s.invalid}"
        elif nominal is not None and s.gb_per_s is not None and s.gb_per_s > IMPOSSIBLE_ABOVE * nominal:
            yield f"{s.side} sentinel {s.sentinel}: {s.gb_per_s:.1f} GB/s is above the nominal {nominal:.1f} GB/s"
    for c in run.contentions:
        curve = impossible_curve(c, platform.nominal_gb_per_s("host"))
        if curve is not None:
            yield f"{c.op} by {' and '.join(c.sides)}: {curve}"
    for product in run.matmuls:
        if not possible(product.timing.seconds):
            yield f"{product.side} matrix product: {NO_TIME}"
        elif product.invalid is not None and not product.wrong:
            yield f"{product.side} matrix product: {product.invalid}"


def _some(told: Sequence[str], what: str) -> str:
    more = len(told) - MOST_TOLD
    return (
        f"{len(told)} {what}{'s' * (len(told) > 1)}: " + "; ".join(told[:MOST_TOLD]) + (f"; {more} more" * (more > 0))
    )
