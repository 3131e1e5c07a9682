"""Judges a run: every check of its platform, each by the protocol's rule, from records alone.

The same folder gives the same verdicts whenever and wherever it is judged: nothing here looks at this machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from roofprobe import units
from roofprobe.acceptance import always, figures
from roofprobe.acceptance.estimates import Estimate, Figure, Nothing, rate, share
from roofprobe.acceptance.faults import HIDDEN_STATE, OF_CHECK, SLOW_KERNEL, Fault, faults_of
from roofprobe.acceptance.limits import CHECKS, CheckLimit, Limit
from roofprobe.acceptance.verdict import Bound, Check, Verdict, decide
from roofprobe.acceptance.yes_or_no import YES_OR_NO, Evidence, no_cluster
from roofprobe.ceiling import Platform
from roofprobe.doctor.sampling_rules import judge_sampling
from roofprobe.finding import Finding
from roofprobe.measurement import Side
from roofprobe.run_file import Run
from roofprobe.telemetry import Sampling

SEVERAL_TIMES = 0.5
"""Of the read: a GEMV below it while copies keep their rate is the hidden slow state."""
OF_CEILING = {
    "nominal": "nominal",
    "read": "the measured read",
    "copy": "the measured copy",
    "clock": "what its SM clock allowed",
    "before": "the rate before",
}
_WORST_FIRST: tuple[Verdict, ...] = ("FAIL", "INCONCLUSIVE", "SKIP", "PASS")
_SIDES: dict[str, Side] = {"gpu": "device", "cpu": "host"}


def judge(
    platform: Platform, run: Run, findings: Sequence[Finding] | None, sampling: Sampling | None
) -> tuple[Check, ...]:
    """Every check, in the order in which they are shown. `findings`: the doctor's; None: it was not asked."""
    of_sampling = () if sampling is None else judge_sampling(sampling, platform)
    found = Evidence(platform, run, sampling, (*(findings or ()), *of_sampling), of_sampling)
    identity = always.machine(platform, run)
    first = [
        *([] if identity is None else [identity]),
        always.complete(run),
        always.doctor(findings),
        always.results_correct(platform, run),
        always.readings_plausible(platform, run),
    ]
    judged: dict[str, Check] = {}
    for name, kind in CHECKS.items():
        if name in platform.checks and (platform.nodes > 1 or not kind.cluster):
            judged[name] = _judge(name, platform.checks[name], found, judged)
    if identity is not None and identity.verdict != "PASS":
        return (*first, *(_elsewhere(check, identity) for check in judged.values()))
    return (*first, *judged.values())


def _elsewhere(check: Check, identity: Check) -> Check:
    """A check of a run that another kind of machine made, or one that is not known to be of this kind."""
    if check.verdict == "SKIP":
        return check
    return msgspec.structs.replace(check, verdict="INCONCLUSIVE", reason=identity.reason, faults=())


def _judge(name: str, limit: CheckLimit, found: Evidence, before: Mapping[str, Check]) -> Check:
    required = _required(limit, found.run)
    if name in YES_OR_NO:
        return msgspec.structs.replace(YES_OR_NO[name](found), required=required)
    figure, ceilings = _figure(name, found)
    unit = CHECKS[name].unit
    blank = Check(check=name, title=CHECKS[name].title, verdict="SKIP", required=required, unit=unit)
    bounds = tuple(
        bound
        for bound in (
            _bound("at_least", limit.at_least, ceilings, unit),
            _bound("at_most", limit.at_most, ceilings, unit),
        )
        if bound is not None
    )
    blank = msgspec.structs.replace(blank, limits=bounds)
    if isinstance(figure, Nothing):
        word: Verdict = "INCONCLUSIVE" if figure.taken else "SKIP"
        return msgspec.structs.replace(blank, verdict=word, reason=figure.reason)
    cases = [_with_verdict(blank, estimate, limit, ceilings, found, before) for estimate in figure]
    downwards = -1 if limit.at_least is None else 1
    return min(cases, key=lambda case: (_WORST_FIRST.index(case.verdict), downwards * (case.measured or 0)))


def _with_verdict(
    check: Check,
    estimate: Estimate,
    limit: CheckLimit,
    ceilings: Mapping[str, float | None],
    found: Evidence,
    before: Mapping[str, Check],
) -> Check:
    check = msgspec.structs.replace(
        check, measured=estimate.value, interval=estimate.interval, processes=estimate.processes
    )
    low = next((b.value for b in check.limits if b.kind == "at_least"), None)
    high = next((b.value for b in check.limits if b.kind == "at_most"), None)
    wanted = sum(given is not None for given in (limit.at_least, limit.at_most))
    if len(check.limits) < wanted:
        missing = next(
            g.of for g in (limit.at_least, limit.at_most) if g is not None and g.of and not ceilings.get(g.of)
        )
        return msgspec.structs.replace(
            check, verdict="INCONCLUSIVE", reason=f"the limit is a share of {OF_CEILING[missing]}, which is not known"
        )
    verdict = decide(estimate.interval, low, high)
    reason = f"{estimate.case}: the interval holds the limit" if verdict == "INCONCLUSIVE" else estimate.case
    if estimate.interval is None:
        reason = f"{estimate.case}: too few undisturbed samples for an interval"
    suspect = _bound("at_most", limit.suspect_above, ceilings, check.unit)
    if verdict == "PASS" and suspect is not None and estimate.value > suspect.value:
        verdict, reason = "INCONCLUSIVE", f"above {_amount(suspect.value, check.unit)} it is suspect: {suspect.source}"
    if verdict == "PASS" and estimate.limited:
        verdict, reason = "INCONCLUSIVE", f"{estimate.case}: the time limit came before a narrow interval"
    if verdict != "FAIL":
        return msgspec.structs.replace(check, verdict=verdict, reason=reason)
    evidence = f"{check.title}: {told(check)}; expected {' and '.join(b.text for b in check.limits)} ({estimate.case})"
    faults = faults_of(_fault(check, before), found.run.environment.host, evidence, found.findings)
    return msgspec.structs.replace(check, verdict="FAIL", reason=reason, faults=faults)


def _fault(check: Check, before: Mapping[str, Check]) -> Fault:
    """A format that is slow alone has a slow kernel: the state of a unit slows the plain GEMV as well."""
    copy, plain = before.get("gpu-copy"), before.get("gpu-gemv-bf16")
    gemvs = [check.measured or 0, 0 if plain is None else plain.measured or 0]
    copies = copy is not None and copy.verdict == "PASS"
    if check.check.startswith("gpu-gemv") and copies and max(gemvs) < SEVERAL_TIMES:
        return HIDDEN_STATE
    return OF_CHECK.get(check.check, SLOW_KERNEL)


def _required(limit: CheckLimit, run: Run) -> bool:
    if limit.required == "with-gpu":
        return bool(run.environment.devices) or run.environment.driver is not None
    return limit.required


def _figure(name: str, found: Evidence) -> tuple[Figure, dict[str, float | None]]:
    """A check's figure, and the ceilings that its limits may be shares of, in its unit."""
    platform, run, sampling = found.platform, found.run, found.sampling
    processor, _, rest = name.partition("-")
    side = _SIDES.get(processor)
    match rest.split("-"):
        case [("read" | "copy") as op] if side:
            return rate(run, platform, sampling, side, op), {"nominal": platform.nominal_gb_per_s(side)}
        case [("gemv" | "dequant") as op, format_] if side:
            return share(run, platform, sampling, side, op, format_), {"read": 1.0, "copy": 1.0}
        case ["stable", sentinel] if side:
            return figures.stability(run, sampling, side, sentinel), {"before": 1.0}
        case ["matmul", "bf16"]:
            product, peak = figures.matmul(run, sampling)
            return product, {"clock": peak}
    if name == "contention":
        read = rate(run, platform, sampling, "device", "read")
        measured = None if isinstance(read, Nothing) else min(each.value for each in read)
        nominal = platform.nominal_gb_per_s("host")
        return figures.together(run, nominal, sampling), {"nominal": nominal, "read": measured}
    collective = "all_gather" if name == "all-gather-busbw" else "all_reduce"
    collectives = figures.across(run, platform.nodes, collective)
    if not collectives:
        return Nothing(no_cluster(platform, collective)), {}
    return (figures.small_latency if name == "all-reduce-small" else figures.bus_bandwidth)(collectives), {}


def _bound(
    kind: Literal["at_least", "at_most"], limit: Limit | None, ceilings: Mapping[str, float | None], unit: str
) -> Bound | None:
    """A limit in the check's unit; None where there is none or its ceiling is not known."""
    if limit is None:
        return None
    word = {"at_least": "at least", "at_most": "at most"}[kind]
    if limit.value is not None:
        return Bound(kind=kind, value=limit.value, text=f"{word} {limit.value:.5g} {unit}", source=limit.source)
    ceiling = ceilings.get(limit.of or "")
    if limit.fraction is None or limit.of is None or ceiling is None:
        return None
    share_text = f"{units.percent(limit.fraction)} of {OF_CEILING[limit.of]}"
    value = limit.fraction * ceiling
    text = f"{word} {_amount(value, unit)} ({share_text})" if unit else f"{word} {share_text}"
    return Bound(kind=kind, value=value, text=text, source=limit.source)


def _amount(value: float, unit: str) -> str:
    return f"{units.number(value)} {unit}" if unit else units.percent(value, 1)


def told(check: Check) -> str:
    """The measured figure with its interval: ``231.4 GB/s [229.8, 232.6]``."""
    if check.measured is None:
        return units.ABSENT
    between = units.between(check.interval) if check.unit else units.percent_between(check.interval)
    return f"{_amount(check.measured, check.unit)} {between}"
