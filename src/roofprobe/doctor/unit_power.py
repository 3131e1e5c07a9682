"""GB10's low-power state: busy, in P0, with no reason given, and at a third of its clock."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from roofprobe.ceiling import Platform
from roofprobe.doctor.unit_load import MIN_SAMPLES, Load, is_braked, is_hot
from roofprobe.finding import Finding
from roofprobe.telemetry import Sample

LOW_CLOCK_MHZ = 1000.0
"""Units in this state were seen at 500 to 850 MHz; healthy ones run at 2400 and more."""
LOW_POWER_W = 40.0
"""Units in this state, and those behind a defective supply, draw 15 to 30 W under load."""
SHARE = 0.3
"""Of the samples under load; the clock's rise at a load's start takes less."""
HELD_BY_SETTING = frozenset({"applications_clocks_setting", "display_clock_setting", "sync_boost"})

REMEDY = (
    "Power-cycle the unit fully: shut it down, unplug its supply from the wall for a minute, start it with the supply "
    "that came with it (straight into the wall and the USB-C power port), and repeat `roofprobe accept --quick`; "
    "replace the supply if power under load stays near 30 W."
)


def low_power_state(host: str, load: Load, platform: Platform | None) -> Iterator[Finding]:
    """The clock decides; a power reading must agree where there is one. Other GPUs have clocks of their own."""
    if not load.sustained or (platform is not None and not platform.is_gb10):
        return
    judged = [s for s in load.samples if s.sm_clock_mhz is not None]
    low = [s for s in judged if _is_low(s, is_gb10=platform is not None)]
    if len(low) < max(MIN_SAMPLES, SHARE * len(judged)):
        return
    clock = median(s.sm_clock_mhz for s in low if s.sm_clock_mhz is not None)
    watts = [s.power_w for s in low if s.power_w is not None]
    busy = [s.utilization_pct for s in low if s.utilization_pct is not None]
    states = sorted({s.p_state for s in low if s.p_state is not None})
    found = [
        f"median SM clock {clock:.0f} MHz (expected about 2400 or more)",
        *([f"power {median(watts):.0f} W"] if watts else []),
        *([f"utilisation {median(busy):.0f} %"] if busy else []),
        *([f"performance state {', '.join(states)}"] if states else []),
    ]
    yield Finding(
        id="unit.low-power-state",
        severity="fault",
        host=host,
        evidence=f"{len(low)} of {len(judged)} samples under load: {', '.join(found)}, and no throttle reason",
        remedy=REMEDY,
    )


def _is_low(sample: Sample, *, is_gb10: bool) -> bool:
    if sample.sm_clock_mhz is None or sample.sm_clock_mhz >= LOW_CLOCK_MHZ:
        return False
    if sample.power_w is not None and sample.power_w > LOW_POWER_W:
        return False
    reasons = set(sample.reasons or ())
    # A laptop at its power cap looks the same; a GB10's cap lies far above 40 W, so there the cap itself is the fault.
    capped = not is_gb10 and "sw_power_cap" in reasons
    return not (is_hot(sample) or is_braked(sample) or reasons & HELD_BY_SETTING or capped)
