"""What published figures are held against: a unit as everybody knows it, or one as its profile measured it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from roofprobe.ceiling import platforms
from roofprobe.profile import TuningProfile
from roofprobe.profile_machine import measured_all_reduce, measured_link, read_ceiling
from roofprobe.rate_bounds import GB10, Limits, usual_all_reduce_seconds


@dataclass(frozen=True)
class Held:
    """The limits, with a sentence that says whose they are."""

    limits: Limits
    source: str


def usual() -> Held:
    """A GB10 whose read nobody measured."""
    text = (
        f"GB10: nominal {GB10.nominal_gb_per_s:g} GB/s a unit, implausible above {GB10.measured_gb_per_s:g} GB/s read"
        f" or with {usual_all_reduce_seconds(1, 2) * 1e6:g} us an all-reduce"
    )
    return Held(GB10, text)


def measured(profile: TuningProfile) -> Held:
    """A GB10 that reads, and all-reduces, as the profile measured: for claims about GB10 units.

    Raises CannotMeasure for a profile without a read of the memory.
    """
    _, rate, _ = read_ceiling(profile)

    def all_reduce_seconds(message_bytes: int, ranks: int) -> float:
        found = measured_all_reduce(profile, ranks)
        if found is None:
            return usual_all_reduce_seconds(message_bytes, ranks)
        link = measured_link(found, message_bytes, ranks)
        return link.latency.mid + link.bandwidth

    limits = replace(GB10, measured_gb_per_s=rate, all_reduce_seconds=all_reduce_seconds)
    return Held(limits, _source(profile, f"GB10: nominal {GB10.nominal_gb_per_s:g} GB/s a unit"))


def of_its_own(profile: TuningProfile) -> Held:
    """The machine that was measured, with its own nominal rate and memory: for a figure about such units.

    Raises CannotMeasure for a profile without a read of the memory.
    """
    held = measured(profile)
    side, _, _ = read_ceiling(profile)
    nominal = profile.ceilings[side]["read"].nominal_gb_per_s
    if nominal is None:
        return Held(held.limits, f"{held.source}; the profile has no nominal rate of its own")
    platform = profile.environment.platform
    usable = next((p.memory.usable_gib for p in platforms() if p.name == platform), None)
    usable_bytes = None if usable is None else usable.value * 2**30
    name = f"{platform or 'the profile'}: nominal {nominal:g} GB/s a unit"
    if usable is None:
        name += ", usable memory unknown: whether a model fits is not judged"
    limits = replace(held.limits, nominal_gb_per_s=nominal, usable_bytes=usable_bytes)
    return Held(limits, _source(profile, name))


def _source(profile: TuningProfile, nominal: str) -> str:
    _, _, read = read_ceiling(profile)
    worlds = sorted({c.world_size for c in profile.collectives} - {1})
    found = [c for c in (measured_all_reduce(profile, ranks) for ranks in worlds) if c is not None]
    known = ", ".join(f"{c.world_size} ranks: {c.transport}" for c in found)
    usual_us = usual_all_reduce_seconds(1, 2) * 1e6
    link = f"measured ({known}), else {usual_us:g} us" if known else f"not in the profile: {usual_us:g} us"
    return f"{nominal}; {read}; all-reduce {link}"
