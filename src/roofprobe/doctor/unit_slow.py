"""Slow states that NVML does not show: only measured work does."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from roofprobe.ceiling import Platform
from roofprobe.doctor.unit_load import Load, nearest
from roofprobe.finding import Finding
from roofprobe.telemetry import Sampling

SLOW = 0.5
"""A healthy GB10's gemv is 1.05 of its copy (231 against 220 GB/s); in the slow state it is several times slower."""
BELOW_HEALTHY = 0.7
"""Of nominal: healthy GB10 units read 0.85 and copy 0.81 of it, the slowest of them 7 % less."""
SHARE = 0.3
"""Of a sampling's gemv results: a few slow ones are stalls, not a state."""

POWER_CYCLE = (
    "Power-cycle the unit fully (shut it down, unplug its supply for a minute, start it) and run gemv and copy again "
    "with `roofprobe accept --quick`; update firmware and driver if gemv is still slow."
)
MEMORY = (
    "Stop every other process that uses the unit's memory, CPU included, and run `roofprobe accept --quick` again; if "
    "it is still slow, unplug the supply for a minute and start the unit again."
)


def hidden_slow_state(sampling: Sampling, platform: Platform | None) -> Iterator[Finding]:
    """Each gemv result is held against the copy nearest to it in time, so one that falls in mid-run is found too."""
    gemvs, copies = sampling.of("gemv"), sampling.of("copy")
    if not gemvs or not copies or _is_low(median(copy.rate for copy in copies), platform):
        return
    slow = [gemv for gemv in gemvs if gemv.rate < SLOW * nearest(copies, gemv.t_s).rate]
    if len(slow) < SHARE * len(gemvs):
        return
    gemv, copy = median(each.rate for each in slow), median(nearest(copies, each.t_s).rate for each in slow)
    clocks = [s.sm_clock_mhz for s in sampling.samples if s.sm_clock_mhz is not None]
    clock = f", with the SM clock up to {max(clocks):.0f} MHz" if clocks else ""
    yield Finding(
        id="unit.hidden-slow-state",
        severity="fault",
        host=sampling.host,
        evidence=f"gemv {gemv:.0f} GB/s while copy reaches {copy:.0f} GB/s in {len(slow)} of {len(gemvs)} results, "
        f"first at {slow[0].t_s:.0f} s{clock}; expected gemv within 10 % of copy or above it",
        remedy=POWER_CYCLE,
    )


def slow_memory(sampling: Sampling, load: Load, platform: Platform | None) -> Iterator[Finding]:
    """Every memory sentinel far under the platform's ceiling, under a full load: slow, or shared with someone."""
    nominal = None if platform is None else platform.nominal_gb_per_s("device")
    if nominal is None or not load.sustained:
        return
    rates = {kind: median(r.rate for r in results) for kind in ("gemv", "copy") if (results := sampling.of(kind))}
    if not rates or max(rates.values()) >= BELOW_HEALTHY * nominal:
        return
    half = max(rates.values()) < SLOW * nominal
    told = " and ".join(f"{kind} {rate:.0f} GB/s" for kind, rate in rates.items())
    yield Finding(
        id="unit.slow-memory",
        severity="fault" if half else "warning",
        host=sampling.host,
        evidence=f"{told} under load, less than {'half' if half else f'{BELOW_HEALTHY:.0%}'} of the nominal"
        f" {nominal:g} GB/s; clock, power and reasons show no cause",
        remedy=MEMORY,
    )


def _is_low(gb_per_s: float, platform: Platform | None) -> bool:
    nominal = None if platform is None else platform.nominal_gb_per_s("device")
    return nominal is not None and gb_per_s < SLOW * nominal
