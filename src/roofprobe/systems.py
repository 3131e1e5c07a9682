"""Systems that a person may choose between, and one workload predicted for each of them.

A system is some units of one platform (data/systems.toml; bandwidth and usable memory in data/platforms/). GB10's
reads were measured; for every other memory the same share of the nominal rate is taken to be readable, and the same
interval of efficiency with it, so that its ceiling is the nominal one. Of several units the way of using them that is
likely to be fastest stands, among those that the model can be split and held by.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
import tomllib
from typing import Annotated

import msgspec
from msgspec import Meta

from roofprobe.ceiling import Figure, platforms
from roofprobe.errors import BadInput
from roofprobe.machines import READ_GB_PER_S, given_machine
from roofprobe.scaling import MOST_UNITS, Prediction, fits_so, predict
from roofprobe.step_terms import KINDS, Machine, Range, Workload

SYSTEMS_FILE = Path(__file__).parent / "data" / "systems.toml"
GB10 = "NVIDIA GB10"
GB10_NOMINAL_GB_PER_S = 273.1

Units = Annotated[int, Meta(ge=1, le=MOST_UNITS)]


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What somebody asked for it, where and when."""

    amount: Annotated[float, Meta(gt=0)]
    currency: str
    date: str
    what: str
    source: str


class System(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Something to buy or rent, of one kind of unit."""

    name: str
    title: str
    platform: str | None = None
    parts: tuple[Units, ...] = (1,)
    """Units of each group that works together."""
    nominal_gb_per_s: Figure | None = None
    """A unit's, where no platform file has it."""
    memory_gib: Figure | None = None
    power_w: Figure | None = None
    """Of the whole system."""
    prices: tuple[Price, ...] = ()
    note: str | None = None

    @property
    def units(self) -> int:
        return sum(self.parts)

    @property
    def bandwidth(self) -> Figure:
        """A unit's nominal."""
        if self.nominal_gb_per_s is not None:
            return self.nominal_gb_per_s
        found = next((p.memory.nominal_gb_per_s for p in platforms() if p.name == self.platform), None)
        assert found is not None, f"{self.name}: no bandwidth"
        return found

    @property
    def memory(self) -> Figure:
        """A unit's, in GiB: what programs can have of it, where that is known."""
        usable = next((p.memory.usable_gib for p in platforms() if p.name == self.platform), None)
        found = usable or self.memory_gib
        assert found is not None, f"{self.name}: no memory"
        return found

    @property
    def is_measured(self) -> bool:
        """Whether the reads of its memory were: GB10's."""
        return any(p.name == self.platform and GB10 in p.match.gpu for p in platforms())


@dataclass(frozen=True)
class Compared:
    """One system's prediction. Rates are of all its parts together."""

    system: System
    prediction: Prediction | None
    """Of the first part; None where the model does not fit it."""
    others: tuple[Prediction, ...]
    """Of further parts that hold the model too, each on a batch of its own."""

    @property
    def expected_tokens_per_s(self) -> Range | None:
        if self.prediction is None:
            return None
        each = [p.expected_tokens_per_s for p in (self.prediction, *self.others)]
        return Range(sum(r.low for r in each), sum(r.mid for r in each), sum(r.high for r in each))

    @property
    def tokens_per_s_per_watt(self) -> float | None:
        expected, power = self.expected_tokens_per_s, self.system.power_w
        return None if expected is None or power is None else expected.mid / power.value

    def tokens_per_s_per_1000(self, price: Price) -> float | None:
        """Of the price's currency."""
        expected = self.expected_tokens_per_s
        return None if expected is None else 1000 * expected.mid / price.amount


class _Systems(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    systems: tuple[System, ...]


@cache
def systems() -> tuple[System, ...]:
    """Every system that ships with roofprobe."""
    return msgspec.convert(tomllib.loads(SYSTEMS_FILE.read_text()), _Systems, strict=False).systems


def unit_machine(system: System) -> Machine:
    """One unit: GB10's measured read, or the nominal rate with GB10's share of it in the efficiency."""
    machine = given_machine().machine
    if system.is_measured:
        return machine
    share, e = READ_GB_PER_S / GB10_NOMINAL_GB_PER_S, machine.efficiency
    efficiency = Range(share * e.low, share * e.mid, share * e.high)
    return replace(machine, bandwidth_gb_per_s=system.bandwidth.value, efficiency=efficiency)


def compare(work: Workload) -> tuple[Compared, ...]:
    """Every system, the likely fastest first and those that can't hold the model last."""
    found = [_compared(system, work) for system in systems()]
    return tuple(sorted(found, key=lambda c: -(c.expected_tokens_per_s.mid if c.expected_tokens_per_s else 0.0)))


def _compared(system: System, work: Workload) -> Compared:
    first, *others = (_best(system, work, units) for units in system.parts)
    return Compared(system, first, tuple(other for other in others if first is not None and other is not None))


def _best(system: System, work: Workload, units: int) -> Prediction | None:
    return max(_ways(system, work, units), key=lambda p: p.expected_tokens_per_s.mid, default=None)


def _ways(system: System, work: Workload, units: int) -> Iterator[Prediction]:
    machine, usable_bytes = unit_machine(system), system.memory.value * 2**30
    for kind in KINDS if units > 1 else KINDS[:1]:
        if not fits_so(work, kind, units, usable_bytes):
            continue
        try:
            yield predict(work, machine, kind, units)
        except BadInput:
            assert kind == "tp"  # a model that does not divide goes in stages
