"""A clock that heat or the supply's brake signal holds back: a fault where the work falls, else only a reason given."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import median

from roofprobe.ceiling import Platform
from roofprobe.doctor.unit_load import MIN_SAMPLES, Load, is_braked, is_hot, nearest
from roofprobe.finding import Finding
from roofprobe.telemetry import Sample, Sampling

FALL = 0.9
"""Of the earlier rate: results of one healthy unit stay within 5 % of each other."""
SOME, MUCH = 0.05, 0.2
"""Share of the samples under load: fewer than some are flickers; much is worth telling even if no work was lost."""
HOT_C = 85.0
"""Without a throttle reason, the temperature from which a falling clock is put down to heat."""
ALL_ALONG = 0.8
"""Share of the samples under load from which a run counts as held from its start."""
LOW_CLOCK_MHZ = 1000.0
"""No data-centre, workstation or GB10 GPU that is only trimmed a little runs this slowly under load."""
LOW_OF_NOMINAL = 0.6
"""A healthy GB10 copies at 0.8 of its nominal memory bandwidth, an H100 at 0.9."""
LOW_MATMUL_TFLOP_PER_S = 56.0
"""Three quarters of the 75 TFLOP/s in BF16 that the slowest healthy GB10 reached."""
KINDS = ("matmul", "gemv", "copy")

COOL = (
    "Give the unit free air on all sides (nothing stacked on it, grilles free of dust, a room under 30 °C), let it "
    "cool for ten minutes and repeat `roofprobe accept`; have it replaced if it throttles again."
)
BRAKE = (
    "Connect the supply that came with the unit straight to the wall, unplug it for a minute first, and repeat "
    "`roofprobe accept --quick`; replace the supply if the brake comes back."
)


def thermal(sampling: Sampling, load: Load, platform: Platform | None) -> Iterator[Finding]:
    """Thermal reasons while work falls; without any reason recorded, heat while both clock and work fall."""
    flagged = [s for s in load.samples if is_hot(s)]
    if flagged:
        yield from _held(sampling, load, platform, is_hot, "unit.thermal", COOL)
        return
    hot = [s for s in load.samples if _is_warm(s) and not is_braked(s)]
    if len(hot) < max(MIN_SAMPLES, SOME * len(load.samples)):
        return
    clock, work = _clock_fall(load.samples, _is_warm), _work_fall(sampling, _is_warm)
    if clock and work:
        yield _fault("unit.thermal", sampling.host, f"no throttle reason{_hottest(hot)}; {work}, {clock}", COOL)


def power_brake(sampling: Sampling, load: Load, platform: Platform | None) -> Iterator[Finding]:
    """The supply's brake signal, with the same rule."""
    yield from _held(sampling, load, platform, is_braked, "unit.power-brake", BRAKE)


def _held(
    sampling: Sampling,
    load: Load,
    platform: Platform | None,
    holds: Callable[[Sample], bool],
    fault: str,
    remedy: str,
) -> Iterator[Finding]:
    flagged = [s for s in load.samples if holds(s)]
    if len(flagged) < max(MIN_SAMPLES, SOME * len(load.samples)):
        return
    reasons = sorted({reason for s in flagged for reason in s.reasons or () if "slowdown" in reason})
    found = f"{', '.join(reasons)} in {len(flagged)} of {len(load.samples)} samples under load{_hottest(flagged)}"
    # Measured work decides where there is any: a clock may fall without costing anything.
    all_along = len(flagged) >= ALL_ALONG * len(load.samples)
    if any(len(sampling.of(kind)) > 1 for kind in KINDS):
        lost = _work_fall(sampling, holds) or (_low_work(sampling, platform) if all_along else None)
    else:
        lost = _clock_fall(load.samples, holds) or (_low_clock(flagged) if all_along else None)
    if lost:
        yield _fault(fault, sampling.host, f"{found}; {lost}", remedy)
    elif len(flagged) >= MUCH * len(load.samples):
        told = f"{found}, but no loss of work was measured"
        yield Finding(id=fault, severity="warning", host=sampling.host, evidence=told, remedy=remedy)


def _work_fall(sampling: Sampling, holds: Callable[[Sample], bool]) -> str | None:
    """The sentinel that fell most: at held moments against the others, and at the run's end against its start."""
    falls = []
    for kind in KINDS:
        results = sampling.of(kind)
        held = [sampling.samples != () and holds(nearest(sampling.samples, r.t_s)) for r in results]
        rates = [r.rate for r in results]
        falls += [(*fall, kind) for fall in _falls(rates, held)]
    if not falls:
        return None
    then, now, kind = min(falls, key=lambda fall: fall[1] / fall[0])
    return f"{kind} fell from {then:.0f} to {now:.0f} {'TFLOP/s' if kind == 'matmul' else 'GB/s'} within the run"


def _clock_fall(samples: Sequence[Sample], holds: Callable[[Sample], bool]) -> str | None:
    told = [(s.sm_clock_mhz, holds(s)) for s in samples if s.sm_clock_mhz is not None]
    falls = _falls([clock for clock, _ in told], [held for _, held in told])
    if not falls:
        return None
    then, now = min(falls, key=lambda fall: fall[1] / fall[0])
    return f"SM clock fell from {then:.0f} to {now:.0f} MHz"


def _falls(values: Sequence[float], held: Sequence[bool]) -> list[tuple[float, float]]:
    """(then, now) of each comparison in which `now` is clearly lower."""
    fifth = max(len(values) // 5, 1)
    pairs = [
        ([v for v, h in zip(values, held, strict=True) if not h], [v for v, h in zip(values, held, strict=True) if h]),
        (values[:fifth], values[-fifth:]) if len(values) > 1 else ((), ()),
    ]
    medians = [(median(then), median(now)) for then, now in pairs if then and now]
    return [(then, now) for then, now in medians if now < FALL * then]


def _low_work(sampling: Sampling, platform: Platform | None) -> str | None:
    """Of a run that was held from its start and so has nothing to fall from: far under what a healthy unit does."""
    nominal = None if platform is None else platform.nominal_gb_per_s("device")
    expected = {} if nominal is None else dict.fromkeys(("gemv", "copy"), LOW_OF_NOMINAL * nominal)
    if platform is not None and platform.is_gb10:
        expected["matmul"] = LOW_MATMUL_TFLOP_PER_S
    rates = {kind: median(r.rate for r in results) for kind in expected if (results := sampling.of(kind))}
    low = [
        f"{kind} {rate:.0f} (expected over {expected[kind]:.0f})"
        for kind, rate in rates.items()
        if rate < expected[kind]
    ]
    return f"{', '.join(low)} from the start" if low else None


def _low_clock(samples: Sequence[Sample]) -> str | None:
    clocks = [s.sm_clock_mhz for s in samples if s.sm_clock_mhz is not None]
    if not clocks or median(clocks) >= LOW_CLOCK_MHZ:
        return None
    return f"SM clock {median(clocks):.0f} MHz from the start"


def _is_warm(sample: Sample) -> bool:
    return (sample.temperature_c or 0) >= HOT_C


def _hottest(samples: Sequence[Sample]) -> str:
    degrees = [s.temperature_c for s in samples if s.temperature_c is not None]
    return f", up to {max(degrees):.0f} °C" if degrees else ""


def _fault(name: str, host: str, evidence: str, remedy: str) -> Finding:
    return Finding(id=name, severity="fault", host=host, evidence=evidence, remedy=remedy)
