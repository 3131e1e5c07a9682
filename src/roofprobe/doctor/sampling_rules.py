"""What one recorded sampling shows of its unit: the one judgement that the doctor and the acceptance test share."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from roofprobe.ceiling import Platform
from roofprobe.doctor.case import Case
from roofprobe.doctor.readings import implausible, inconclusive, plausible
from roofprobe.doctor.unit_load import load_of
from roofprobe.doctor.unit_peers import slower_than_peers
from roofprobe.doctor.unit_power import low_power_state
from roofprobe.doctor.unit_slow import hidden_slow_state, slow_memory
from roofprobe.doctor.unit_stalls import periodic_stalls
from roofprobe.doctor.unit_thermal import power_brake, thermal
from roofprobe.finding import Finding
from roofprobe.telemetry import Sampling


def judge_sampling(sampling: Sampling, platform: Platform | None) -> tuple[Finding, ...]:
    """Every finding of one sampling; none for a healthy unit under load.

    Results above the platform's ceiling are named and then left out, and so are a CPU's: the rules are about GPUs. A
    unit in its low-power state is slow, stalls and falls because of it, so nothing else is looked for there. A warning
    ``reading.inconclusive`` stands only where no fault was found: then the sampling shows neither health nor a fault,
    and must not count as passed.
    """
    readings = tuple(implausible(sampling, platform))
    trusted = plausible(sampling, platform).of_side("device")
    load = load_of(trusted)
    unit = tuple(low_power_state(trusted.host, load, platform)) or tuple(
        chain(
            thermal(trusted, load, platform),
            power_brake(trusted, load, platform),
            hidden_slow_state(trusted, platform),
            periodic_stalls(trusted, load),
        )
    )
    if not _faulty(unit):
        unit += tuple(slow_memory(trusted, load, platform))
    if not _faulty((*readings, *unit)):
        readings += tuple(inconclusive(sampling, load_of(sampling)))
    return (*unit, *readings)


def samplings(case: Case) -> Iterator[Finding]:
    """The rule over every sampling of a case, and over those of one platform that are sound in themselves together."""
    sound: list[tuple[Platform | None, Sampling]] = []
    for sampling in case.samplings:
        platform = case.platform_of(sampling.host)
        findings = judge_sampling(sampling, platform)
        yield from findings
        if not _faulty(findings) and not any(finding.id == "reading.inconclusive" for finding in findings):
            sound.append((platform, plausible(sampling, platform).of_side("device")))
    while sound:
        platform = sound[0][0]
        yield from slower_than_peers([sampling for of, sampling in sound if of == platform])
        sound = [each for each in sound if each[0] != platform]


def _faulty(findings: tuple[Finding, ...]) -> bool:
    return any(finding.severity == "fault" for finding in findings)
