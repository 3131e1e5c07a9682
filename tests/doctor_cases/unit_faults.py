"""Faults of a unit that a recorded sampling shows, and of its software."""

from __future__ import annotations

from typing import Any

from doctor_cases.case import Case, Finding
from doctor_cases.clusters import A, B, C, either, trees, unit
from doctor_cases.host import SOFTWARE, Host
from doctor_cases.nccl_text import Process, text
from doctor_cases.sampling import healthy, jsonl, samples, sentinels
from doctor_cases.tables import ramp, table

POWER_CYCLE = r"power|unplug|supply"


def _unit(name: str, evidence: str, remedy: str, hosts: tuple[str, ...] = (A,)) -> Finding:
    return Finding(f"unit.{name}", hosts, evidence, remedy)


def _sampling(rates: dict[str, Any], seconds: float = 120, **changes: Any) -> dict[str, str]:
    return {A: jsonl(samples(seconds, **changes), sentinels(seconds, **rates))}


starved = _sampling(
    {"gemv": 52.0, "copy": 61.0, "matmul": 14.0},
    sm_clock_mhz=lambda t: 507.0 + int(t) % 2,
    power_w=14.8,
    temperature_c=46.0,
)
supply = _sampling(
    {"gemv": 88.0, "copy": 96.0, "matmul": 21.0},
    sm_clock_mhz=847.0,
    power_w=lambda t: 29.4 + int(t) % 2,
    temperature_c=51.0,
)
silent_nvml = _sampling(
    {"gemv": 52.0, "copy": 61.0, "matmul": None}, sm_clock_mhz=611.0, power_w=18.2, p_state=None, reasons=None
)
slow_gemv = _sampling({"gemv": 67.0})
flips = _sampling({"gemv": lambda t: 223.0 if t < 60 else 67.0})
heat = {"temperature_c": lambda t: min(60 + t / 3, 94.0), "sm_clock_mhz": lambda t: 2410.0 if t < 60 else 1480.0}


def hot(reason: str) -> dict[str, str]:
    falling = {
        "gemv": lambda t: 223.0 if t < 60 else 171.0,
        "copy": lambda t: 221.0 if t < 60 else 176.0,
        "matmul": lambda t: 84.0 if t < 60 else 52.0,
    }
    return _sampling(falling, reasons=lambda t: [reason] if t >= 60 else [], **heat)


def _stalls(period: float, lasting: float = 20.0) -> Any:
    return lambda rate: lambda t: rate * 0.18 if t > 60 and t % period < lasting else rate


half_hourly = _stalls(1800)
STALLED = {
    A: jsonl(samples(9000, 10), sentinels(9000, 10, gemv=half_hourly(223.0), copy=half_hourly(221.0), matmul=None))
}
ten_minutes = _stalls(600, 15.0)
STALLED_OFTEN = {
    B: jsonl(
        samples(3600, 5), sentinels(3600, 5, gemv=ten_minutes(223.0), copy=ten_minutes(221.0), matmul=ten_minutes(84.0))
    )
}


def _slow(rate: float) -> str:
    return jsonl(samples(120), sentinels(120, gemv=223.0 * rate, copy=221.0 * rate, matmul=84.0 * rate))


SLOW_RANK = r"slow|13[0-9]|15[0-9]"
UNITS = [
    Case(
        "low power: 507 MHz",
        "utilisation, clock and power, no reason",
        _unit("low-power-state", r"507|508", POWER_CYCLE),
        telemetry=starved,
    ),
    Case(
        "low power: a weak supply",
        "850 MHz at 30 W",
        _unit("low-power-state", r"847|29|30", POWER_CYCLE),
        telemetry=supply,
    ),
    Case(
        "low power: NVML says less",
        "no P-state and no reasons",
        _unit("low-power-state", r"611", POWER_CYCLE),
        telemetry=silent_nvml,
    ),
    Case(
        "hidden slow state: throughout",
        "GEMV 67 and copy 221 GB/s",
        _unit("hidden-slow-state", r"6[67]", r"unplug|power|reboot|restart"),
        telemetry=slow_gemv,
    ),
    Case(
        "hidden slow state: from the second minute on",
        "GEMV falls and copy stays",
        _unit("hidden-slow-state", r"6[67]", r"unplug|power|reboot|restart"),
        telemetry=flips,
    ),
    Case(
        "thermal: software slowdown",
        "event reason, temperature and rates",
        _unit("thermal", r"sw_thermal_slowdown|9[0-4]", r"air|cool|dust|fan|vent"),
        telemetry=hot("sw_thermal_slowdown"),
    ),
    Case(
        "thermal: hardware slowdown",
        "event reason, temperature and rates",
        _unit("thermal", r"hw_slowdown|9[0-4]", r"air|cool|dust|fan|vent"),
        telemetry=hot("hw_slowdown"),
    ),
    Case(
        "stalls: every half hour",
        "two and a half hours of sentinels",
        _unit("periodic-stall", r"1800|30(\.0)? min|half", r"timer|cron|service|journal|background|firmware"),
        telemetry=STALLED,
    ),
    Case(
        "stalls: every ten minutes",
        "an hour of sentinels",
        _unit("periodic-stall", r"600|10(\.0)? min", r"timer|cron|service|journal|background|firmware", (B,)),
        telemetry=STALLED_OFTEN,
    ),
    Case(
        "slow unit: of three",
        "sentinels of three hosts",
        _unit("slow-rank", SLOW_RANK, r"swap|power|replace|compare|alone|run", (C,)),
        telemetry={A: healthy(), B: _slow(1.03), C: _slow(0.7)},
    ),
    Case(
        "slow unit: of two",
        "sentinels of two hosts",
        _unit("slow-rank", SLOW_RANK, r"swap|power|replace|compare|alone|run", (B, f"{A}, {B}")),
        telemetry={A: healthy(), B: _slow(0.7)},
    ),
]

PTXAS = Finding("software.ptxas-too-old", (A,), r"12\.8|sm_121a", r"TRITON_PTXAS_PATH")
FATAL = "ptxas fatal   : Value 'sm_121a' is not defined for option 'gpu-name'"
TRACE = (
    "Traceback (most recent call last):",
    "triton.runtime.errors.PTXASError: PTXAS error: Internal Triton PTX codegen error",
    "`ptxas` stderr:",
    FATAL,
)
long_text = "Cuda compilation tools, release 12.8, V12.8.93"
SOFTWARE_FAULTS = [
    Case(
        "ptxas: too old",
        "software.json",
        PTXAS,
        roots=trees(unit(software={**SOFTWARE, "ptxas": "12.8", "triton": "3.5.0"})),
    ),
    Case(
        "ptxas: too old, its own words",
        "software.json, folder",
        PTXAS,
        roots=trees(unit(software={**SOFTWARE, "ptxas": long_text, "triton": "3.5.0"})),
        folders=True,
    ),
    Case("ptxas: its error", "a log", PTXAS, logs={"a.log": text(Process(A, 0, 1, after=TRACE))}),
    Case(
        "ptxas: no cable either",
        "software.json of a unit without a link",
        PTXAS,
        roots=trees(Host(software={**SOFTWARE, "ptxas": "12.8.93"})),
    ),
]

IMPOSSIBLE = Finding("reading.implausible", (A,), r"41[0-4]|546|54[0-9]", r"cache|byte|buffer|working set|count")
cached = jsonl(samples(60), sentinels(60, gemv=412.0))
counted_twice = jsonl(samples(60), sentinels(60, copy=546.0))
SPARK = ("--platform", "dgx-spark")
idle_half = {"utilization_pct": lambda t: 52.0 + int(t) % 9}
READINGS = [
    Case("implausible: a cached GEMV", "412 GB/s with --platform", IMPOSSIBLE, telemetry={A: cached}, flags=SPARK),
    Case(
        "implausible: bytes counted twice",
        "546 GB/s, platform from software.json",
        IMPOSSIBLE,
        roots=trees(unit()),
        telemetry={A: counted_twice},
    ),
    Case(
        "implausible: by the product's name",
        "412 GB/s, platform from the firmware",
        IMPOSSIBLE,
        roots=trees(unit(maker="dell", software=None)),
        telemetry={A: cached},
        folders=True,
    ),
    Case(
        "implausible: a link above its rate",
        "a table of 46 GB/s",
        Finding("reading.implausible", (*either(A, B), "table"), r"4[56]\.", r"byte|count|repeat|again|measure"),
        logs={"t.txt": table(ramp(46.0))},
        flags=SPARK,
    ),
    Case(
        "inconclusive: half idle",
        "utilisation of 52 to 60 %",
        Finding("reading.inconclusive", (A,), r"5[2-9]|60", r"load|again|repeat|sustain", "warning"),
        3,
        telemetry={A: jsonl(samples(120, **idle_half), sentinels(120))},
    ),
    Case(
        "inconclusive: half idle and slow",
        "utilisation of 40 % at 80 GB/s",
        Finding("reading.inconclusive", (A,), r"40", r"load|again|repeat|sustain", "warning"),
        3,
        telemetry={A: jsonl(samples(120, utilization_pct=40.0), sentinels(120, gemv=80.0, copy=84.0, matmul=None))},
    ),
]
UNIT_FAULTS = [*UNITS, *SOFTWARE_FAULTS, *READINGS]
