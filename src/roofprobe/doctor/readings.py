"""What a sampling's own figures are worth: rates that no memory reaches, and a load that was none."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from roofprobe.ceiling import Platform
from roofprobe.doctor.unit_load import LOAD_PCT, MIN_SAMPLES, Load
from roofprobe.finding import Finding
from roofprobe.telemetry import Sampling, SentinelResult

GB10_SUSPECT_GB_PER_S = 240.0
"""A healthy GB10 reads 231 to 234 GB/s from memory; single results pass 240 by noise, their median does not."""
GB10_MATMUL_TFLOP_PER_S = 125.0
"""48 SMs x 1024 BF16 operations a clock x 2.55 GHz."""
SLACK = 1.02
"""Clocks and byte counts are exact to better than this; above it a reading is invalid and not merely doubtful."""

_COUNT = (
    "Discard these figures and measure again over buffers that follow no pattern and exceed five times the last-level "
    "cache, with the bytes counted once: `roofprobe memory`."
)
_LOAD = (
    "Stop other work on the unit and repeat the measurement under a load that keeps the GPU busy from start to end: "
    "`roofprobe accept --quick`."
)


def implausible(sampling: Sampling, platform: Platform | None) -> Iterator[Finding]:
    """Sentinels above what the platform's memory or arithmetic can do; without a platform nothing is implausible."""
    over = [(r, c) for r in sampling.sentinels if (c := _ceiling(r, platform)) is not None and r.rate > c]
    if over:
        worst, ceiling = max(over, key=lambda each: each[0].rate / each[1])
        invalid = worst.rate > SLACK * ceiling
        yield Finding(
            id="reading.implausible",
            severity="fault" if invalid else "warning",
            host=sampling.host,
            evidence=f"{_told(worst)} at {worst.t_s:.0f} s is above the nominal ceiling of {ceiling:g} {_unit(worst)} "
            f"({_of_all(len(over), sampling)}): the data came from a cache, or the bytes were counted wrong",
            remedy=_COUNT,
        )
        return
    for kind in ("gemv", "copy"):
        rates = [r.rate for r in sampling.of_side("device").of(kind)]
        if platform is None or not platform.is_gb10 or not rates or median(rates) <= GB10_SUSPECT_GB_PER_S:
            continue
        yield Finding(
            id="reading.implausible",
            severity="warning",
            host=sampling.host,
            evidence=f"median {kind} of {median(rates):.1f} GB/s is above the {GB10_SUSPECT_GB_PER_S:g} GB/s that "
            "GB10's memory has been seen to give: part of it may have come from a cache",
            remedy=_COUNT,
        )
        return


def plausible(sampling: Sampling, platform: Platform | None) -> Sampling:
    """The sampling without the results above a ceiling: no rule may conclude anything from those."""
    kept = tuple(r for r in sampling.sentinels if (c := _ceiling(r, platform)) is None or r.rate <= c)
    return Sampling(sampling.host, sampling.samples, kept)


def inconclusive(sampling: Sampling, load: Load) -> Iterator[Finding]:
    """The work did not keep the unit busy, or nothing shows that it did: the sampling neither passes nor fails."""
    if load.sustained:
        return
    if load.utilization_pct is None:
        found = "neither the GPU's utilisation nor a result of its sentinels was recorded"
    elif load.utilization_pct >= LOAD_PCT:
        found = f"fewer than {MIN_SAMPLES} samples were taken under load"
    else:
        found = f"median utilisation was {load.utilization_pct:.0f} %, expected at least {LOAD_PCT:.0f} % under load"
    yield Finding(
        id="reading.inconclusive",
        severity="warning",
        host=sampling.host,
        evidence=f"{found}: the sampling says nothing of the unit's health",
        remedy=_LOAD,
    )


def _ceiling(result: SentinelResult, platform: Platform | None) -> float | None:
    if platform is None:
        return None
    if result.sentinel == "matmul":
        return GB10_MATMUL_TFLOP_PER_S if platform.is_gb10 and result.side == "device" else None
    return platform.nominal_gb_per_s(result.side)


def _told(result: SentinelResult) -> str:
    return f"{result.sentinel} of {result.rate:.1f} {_unit(result)}"


def _unit(result: SentinelResult) -> str:
    return "TFLOP/s" if result.sentinel == "matmul" else "GB/s"


def _of_all(found: int, sampling: Sampling) -> str:
    return f"{found} of {len(sampling.sentinels)} results"
