"""What a prediction takes for the machine where nobody measured it, and where each figure comes from.

Efficiency, time a layer and the independence of routing are calibrated on one part of the published figures in
data/validation.toml and held against the other (`roofprobe predict --validate`, docs/validation.md). A test makes them
again from the data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from roofprobe.step_terms import LinkTime, Machine, Range

READ_GB_PER_S = 234.0
"""A saturating read on healthy GB10 units: 231 to 234 GB/s (antirez/ds4 issue 773)."""
ALL_REDUCE_US = Range(28.0, 30.0, 40.0)
"""8 to 32 KiB on a pair with stock NCCL."""
LINK_GB_PER_S = 23.7
"""All-gather busbw of a healthy pair (NVIDIA/dgx-spark-playbooks pull request 103)."""
LATENCY_UP_TO = 32 << 10
"""Message bytes up to which a stated all-reduce time holds: that is what was measured."""

EFFICIENCY = Range(0.722, 0.942, 0.991)
LAYER_SECONDS = Range(16.8e-6, 33.7e-6, 67.3e-6)
INDEPENDENCE = 0.755


@dataclass(frozen=True)
class Assumed:
    """A machine with a sentence for each of its figures."""

    machine: Machine
    notes: tuple[str, ...]


def given_machine(gb_per_s: float | None = None, all_reduce_us: float | None = None) -> Assumed:
    """From numbers that a person states; GB10's for those that are left out."""
    bandwidth = READ_GB_PER_S if gb_per_s is None else gb_per_s
    latency = ALL_REDUCE_US if all_reduce_us is None else Range.of(all_reduce_us)
    machine = Machine(bandwidth, EFFICIENCY, LAYER_SECONDS, stated_link(latency), INDEPENDENCE)
    source = "given" if gb_per_s is not None else "not given: what healthy GB10 units read"
    return Assumed(
        machine,
        (
            f"bandwidth {bandwidth:g} GB/s a unit, {source}",
            efficiency_note(EFFICIENCY, "calibrated on published figures"),
            layer_note(),
            link_note(all_reduce_us),
        ),
    )


def stated_link(latency_us: Range) -> Callable[[int, int], LinkTime]:
    """One time for every small message; what a larger one has beyond them crosses at LINK_GB_PER_S."""
    latency = Range(latency_us.low * 1e-6, latency_us.mid * 1e-6, latency_us.high * 1e-6)

    def link(message_bytes: int, ranks: int) -> LinkTime:
        beyond = max(0, message_bytes - LATENCY_UP_TO) * 2 * (ranks - 1) / ranks
        return LinkTime(latency, beyond / (LINK_GB_PER_S * 1e9))

    return link


def efficiency_note(efficiency: Range, source: str) -> str:
    return (
        f"efficiency of a step's reads {efficiency.mid:.3f} of that"
        f" ({efficiency.low:.3f} to {efficiency.high:.3f}), {source}"
    )


def layer_note() -> str:
    low, mid, high = (value * 1e6 for value in (LAYER_SECONDS.low, LAYER_SECONDS.mid, LAYER_SECONDS.high))
    return (
        f"fixed time {mid:.0f} us a layer ({low:.0f} to {high:.0f}), calibrated on published figures;"
        f" of a batch's experts, the fast end takes tokens ** {INDEPENDENCE} for independent"
    )


def link_note(all_reduce_us: float | None) -> str:
    beyond = (
        f"any number of units, messages up to {LATENCY_UP_TO >> 10} KiB; beyond, bus bytes at {LINK_GB_PER_S:g} GB/s"
    )
    if all_reduce_us is not None:
        return f"all-reduce {all_reduce_us:g} us, given; {beyond}"
    known = ALL_REDUCE_US
    return f"all-reduce {known.mid:g} us ({known.low:g} to {known.high:g}), not given: a pair with stock NCCL; {beyond}"
