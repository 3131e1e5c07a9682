"""Samplings by name, with what they must be found to be: states of a unit, healthy units, and doubtful recordings.

Synthetic, all of them: what `samplings` generates from what is known of GB10, with the state laid over it.
"""

from samplings import Line, cut, healthy, result, saying, scaled, stalled, without

from roofprobe.ceiling import Platform, platforms

PLATFORMS = {platform.name: platform for platform in platforms()}
SPARK = PLATFORMS["dgx-spark"]
SOAK = {"every": 5.0, "sentinel_every": 10.0}
"""Sampling of a soak: a stall of half a minute is three results of each sentinel."""


def low_power(**how: object) -> list[Line]:
    return scaled(healthy(clock=612, power=22, **how), 0.35)  # type: ignore[arg-type]


def overheated(seconds: float = 600, *, reason: str = "sw_thermal_slowdown", **how: object) -> list[Line]:
    """From a third of the run on, the clock falls to 60 % and takes the work along."""
    start = seconds / 3
    lines = healthy(seconds, **how)  # type: ignore[arg-type]
    lines = saying(
        lines,
        start,
        reasons=[reason],
        temperature_c=lambda t: 88 + 4 * min(1, (t - start) / 60),
        sm_clock_mhz=lambda t: 2400 - 960 * min(1, (t - start) / 120),
    )
    return scaled(lines, 0.68, start=start + seconds / 10)


def throttled(lines: list[Line], start: float, end: float) -> list[Line]:
    """Held back by heat for a while, below half of its rate: a moment with a reason is no stall."""
    lines = saying(lines, start, end, reasons=["sw_thermal_slowdown"], sm_clock_mhz=1100)
    return scaled(lines, 0.4, start=start, end=end)


FAULTS: dict[str, tuple[list[Line], str]] = {
    "low power": (low_power(), "unit.low-power-state"),
    "low power, 850 MHz and 30 W": (healthy(clock=835, power=30), "unit.low-power-state"),
    "low power, memory still fast": (healthy(clock=700, power=25), "unit.low-power-state"),
    "low power without sentinels": (healthy(clock=507, power=15, sentinel_every=None), "unit.low-power-state"),
    "low power, no power reading": (without(low_power(), "power_w"), "unit.low-power-state"),
    "low power, no utilisation": (without(low_power(), "utilization_pct"), "unit.low-power-state"),
    "low power, no reasons": (without(low_power(), "reasons", "p_state"), "unit.low-power-state"),
    "low power between idle times": (low_power(idle=30), "unit.low-power-state"),
    "low power from mid-run on": (saying(healthy(), 30, sm_clock_mhz=640, power_w=21), "unit.low-power-state"),
    "low power at the supply's cap": (healthy(clock=650, power=28, reasons=("sw_power_cap",)), "unit.low-power-state"),
    "hidden": (scaled(healthy(), 0.24, "gemv"), "unit.hidden-slow-state"),
    "hidden from mid-run on": (scaled(healthy(), 0.3, "gemv", start=33), "unit.hidden-slow-state"),
    "hidden during the load alone": (scaled(healthy(), 0.3, "gemv", start=20, end=40), "unit.hidden-slow-state"),
    "hidden, three of each": (scaled(healthy(sentinel_every=20), 0.24, "gemv"), "unit.hidden-slow-state"),
    "hidden, sentinels alone": (
        [x for x in scaled(healthy(), 0.2, "gemv") if "sentinel" in x],
        "unit.hidden-slow-state",
    ),
    "thermal": (overheated(), "unit.thermal"),
    "thermal, hardware's reason": (overheated(reason="hw_slowdown"), "unit.thermal"),
    "thermal, short": (overheated(90), "unit.thermal"),
    "thermal, three sentinels of a kind": (overheated(300, sentinel_every=100), "unit.thermal"),
    "thermal, no sentinels": (overheated(sentinel_every=None), "unit.thermal"),
    "thermal, no reasons supported": (without(overheated(), "reasons"), "unit.thermal"),
    "thermal, no temperature": (without(overheated(), "temperature_c"), "unit.thermal"),
    "thermal, comes and goes": (throttled(throttled(healthy(600), 100, 200), 400, 500), "unit.thermal"),
    "thermal from the start": (
        scaled(healthy(clock=1300, power=40, reasons=("sw_thermal_slowdown",)), 0.55),
        "unit.thermal",
    ),
    "power brake": (overheated(reason="hw_power_brake_slowdown"), "unit.power-brake"),
    "stalls of two hours": (stalled(7200, (1800, 3600, 5400), **SOAK), "unit.periodic-stall"),
    "stalls of an hour": (stalled(4000, (1750, 3555), **SOAK), "unit.periodic-stall"),
    "one stall in a soak of 35 minutes": (stalled(2100, (1800,), **SOAK), "unit.periodic-stall"),
    "stalls shorter than sentinels' distance": (
        stalled(7300, (1800, 3600, 5400), 8, every=5, sentinel_every=10),
        "unit.periodic-stall",
    ),
    "stalls without sentinels, clock falls": (
        saying(
            saying(healthy(4000, every=5, sentinel_every=None), 1800, 1830, sm_clock_mhz=400),
            3600,
            3630,
            sm_clock_mhz=400,
        ),
        "unit.periodic-stall",
    ),
    "stalls without sentinels, utilisation falls": (
        saying(
            saying(healthy(4000, every=5, sentinel_every=None), 1800, 1830, utilization_pct=2),
            3600,
            3630,
            utilization_pct=2,
        ),
        "unit.periodic-stall",
    ),
    "stalls as gaps": (cut(cut(healthy(4000, **SOAK), 1800, 1845), 3600, 3645), "unit.periodic-stall"),
    "stalls, every five minutes": (stalled(1500, range(300, 1500, 300), **SOAK), "unit.periodic-stall"),
    "stalls, sentinels alone": (
        [x for x in stalled(7200, (1800, 3600, 5400), **SOAK) if "sentinel" in x],
        "unit.periodic-stall",
    ),
    "memory shared with another": (scaled(healthy(), 0.4), "unit.slow-memory"),
    "above nominal": (scaled(healthy(), 1.4, "gemv"), "reading.implausible"),
    "one result above nominal": ([*healthy(), result(70, "copy", 546)], "reading.implausible"),
    "matmul above its peak": (scaled(healthy(), 2, "matmul"), "reading.implausible"),
    "above nominal in an idle unit": ([*healthy(utilization=40), result(70, "gemv", 300)], "reading.implausible"),
}

H200 = {"gemv": 3900.0, "copy": 4000.0, "matmul": 720.0}
CLEAN: dict[str, tuple[list[Line], Platform | None]] = {
    "unit": (healthy(), SPARK),
    "noise of 4 %": (healthy(noise=0.04), SPARK),
    "five minutes": (healthy(300, noise=0.02), SPARK),
    "soak": (healthy(2100, noise=0.03, **SOAK), SPARK),  # type: ignore[arg-type]
    "ten samples a second": (healthy(60, every=0.1), SPARK),
    "5 % slower than its peers": (scaled(healthy(), 0.95), SPARK),
    "idle before and after": (healthy(idle=40), SPARK),
    "idle before and after a short load": (healthy(15, idle=60, sentinel_every=5), SPARK),
    "ramp": (
        saying(saying(healthy(), 0, 4, sm_clock_mhz=900, power_w=25, utilization_pct=85), 56, 60, utilization_pct=30),
        SPARK,
    ),
    "no sentinels": (healthy(sentinel_every=None), SPARK),
    "sentinels alone": ([line for line in healthy() if "sentinel" in line], SPARK),
    "nothing but utilisation": (
        without(healthy(), "sm_clock_mhz", "power_w", "temperature_c", "p_state", "reasons"),
        SPARK,
    ),
    **{
        f"without {name}": (without(healthy(), name), SPARK)
        for name in ("utilization_pct", "sm_clock_mhz", "power_w", "temperature_c", "p_state", "reasons")
    },
    "gemv alone": (healthy(rates={"gemv": 231.0}), SPARK),
    "copy alone": (healthy(rates={"copy": 221.0}), SPARK),
    "before, during and after": (
        [x for x in healthy(600) if "sentinel" not in x or x["t_s"] < 20 or 300 <= x["t_s"] < 320 or x["t_s"] > 580],
        SPARK,
    ),
    "a few thermal flickers": (saying(healthy(600), 300, 305, reasons=["sw_thermal_slowdown"]), SPARK),
    "hot, work unharmed": (saying(healthy(600), 100, temperature_c=87), SPARK),
    "at its power cap": (healthy(power=140, reasons=("sw_power_cap",)), SPARK),
    "together with the CPU for a while": (scaled(healthy(180), 0.66, start=60, end=120), SPARK),
    "one outlier": (scaled(healthy(300), 0.3, "gemv", start=150, end=154), SPARK),
    "pause in the load": (
        saying(healthy(300, sentinel_every=None), 100, 130, utilization_pct=0, sm_clock_mhz=208),
        SPARK,
    ),
    "a soak in phases": (
        saying(
            saying(healthy(2100, every=5, sentinel_every=None), 60, 90, utilization_pct=0, sm_clock_mhz=208),
            2000,
            2030,
            utilization_pct=0,
            sm_clock_mhz=208,
        ),
        SPARK,
    ),
    "a load that begins again every two minutes": (
        saying(healthy(3600, every=5, sentinel_every=None), utilization_pct=lambda t: 0 if t % 120 < 10 else 97),
        SPARK,
    ),
    "no platform": (healthy(), None),
    "H100 at its power cap": (
        healthy(
            rates={"gemv": 2800.0, "copy": 2900.0, "matmul": 650.0}, clock=1410, power=699, reasons=("sw_power_cap",)
        ),
        PLATFORMS["h100-sxm"],
    ),
    "H200": (healthy(rates=H200, clock=1980, power=560), PLATFORMS["h200-sxm"]),
    "H200 without its platform": (healthy(rates=H200, clock=1980, power=560), None),
    "laptop at its power cap": (
        healthy(rates={"gemv": 180.0, "copy": 190.0}, clock=885, power=35, reasons=("sw_power_cap",)),
        None,
    ),
    "T4 far below its clock": (
        healthy(rates={"gemv": 240.0, "copy": 230.0}, clock=645, power=68, reasons=("sw_power_cap",)),
        None,
    ),
    "CPU, no GPU": ([{**result(t, "gemv", 33), "side": "host"} for t in range(30)], PLATFORMS["generic"]),
}

WARNINGS: dict[str, tuple[list[Line], str]] = {
    "thermal reasons, work unharmed": (healthy(reasons=("sw_thermal_slowdown",)), "unit.thermal"),
    "brake's signal, work unharmed": (healthy(reasons=("hw_power_brake_slowdown", "hw_slowdown")), "unit.power-brake"),
    "a stall in a short recording": (stalled(300, (150,)), "unit.periodic-stall"),
    "a pause in a soak without sentinels": (
        saying(healthy(2100, every=5, sentinel_every=None), 1800, 1830, utilization_pct=1, sm_clock_mhz=208),
        "unit.periodic-stall",
    ),
    "just above nominal": ([*healthy(), result(70, "copy", 275)], "reading.implausible"),
    "faster than GB10's memory was seen": (scaled(healthy(), 1.08, "gemv"), "reading.implausible"),
    "idle": (healthy(0, idle=60), "reading.inconclusive"),
    "half busy": (scaled(healthy(utilization=55), 0.6), "reading.inconclusive"),
    "half busy at a low clock": (healthy(utilization=55, clock=700, power=20), "reading.inconclusive"),
    "just not busy": (healthy(utilization=76, noise=0), "reading.inconclusive"),
    "no utilisation, no sentinel": (without(healthy(sentinel_every=None), "utilization_pct"), "reading.inconclusive"),
    "two samples": (healthy(2, sentinel_every=None), "reading.inconclusive"),
    "nothing at all": ([], "reading.inconclusive"),
}
