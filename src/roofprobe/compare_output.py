"""Every known system side by side for one workload, as JSON and as a table."""

from __future__ import annotations

from typing import Any

from roofprobe import units
from roofprobe.machines import READ_GB_PER_S, given_machine
from roofprobe.model_bytes import cache_bytes, weight_bytes
from roofprobe.predict_output import CLOSING, heading, model_json, range_json
from roofprobe.step_terms import Workload
from roofprobe.systems import GB10_NOMINAL_GB_PER_S, Compared, Price, System, compare

UNMEASURED = (
    f"memory other than GB10's was not measured: {READ_GB_PER_S / GB10_NOMINAL_GB_PER_S:.1%} of its nominal rate is"
    " taken to be readable, as on GB10, with the same interval of efficiency and the same time a layer; its ceiling is"
    " at the nominal rate, and all of its nominal memory counts as usable"
)
ALONE = "each further group of units (2+1) decodes a batch of its own, which the rate includes"


def compare_json(work: Workload) -> dict[str, Any]:
    """The model's facts without `fits`, which is each system's, then `systems`, the likely fastest first."""
    facts = model_json(work)
    del facts["fits"], facts["usable_bytes_per_unit"]
    return {**facts, "systems": [_system(c, work) for c in compare(work)], "assumptions": _assumptions()}


def _assumptions() -> list[str]:
    return [*given_machine().notes, UNMEASURED, ALONE, *CLOSING]


def _system(c: Compared, work: Workload) -> dict[str, Any]:
    system, expected = c.system, c.expected_tokens_per_s
    ceiling = None if c.prediction is None else sum(p.ceiling_tokens_per_s for p in (c.prediction, *c.others))
    return {
        "system": system.name,
        "title": system.title,
        "units": system.units,
        "fits": c.prediction is not None,
        "parallelism": _parallelism(c),
        "sequences": work.batch * (1 + len(c.others)),
        "ceiling_tokens_per_s": ceiling,
        "expected_tokens_per_s": None if expected is None else range_json(expected),
        "tokens_per_s_per_watt": c.tokens_per_s_per_watt,
        "measured_memory": system.is_measured,
        "nominal_gb_per_s": _figure(system.bandwidth.value, system.bandwidth.source),
        "memory_gib_per_unit": _figure(system.memory.value, system.memory.source),
        "power_w": None if system.power_w is None else _figure(system.power_w.value, system.power_w.source),
        "prices": [_price(c, price) for price in system.prices],
        "note": system.note,
    }


def _figure(value: float, source: str) -> dict[str, Any]:
    return {"value": value, "source": source}


def _price(c: Compared, price: Price) -> dict[str, Any]:
    return {
        "amount": price.amount,
        "currency": price.currency,
        "date": price.date,
        "what": price.what,
        "source": price.source,
        "tokens_per_s_per_1000": c.tokens_per_s_per_1000(price),
    }


def _parallelism(c: Compared) -> str | None:
    return None if c.prediction is None else "+".join(p.name for p in (c.prediction, *c.others))


def compare_text(work: Workload) -> str:
    """A row a system, then where its figures were read."""
    columns = f"{'expected tok/s':>24}{'ceiling':>9}{'a watt':>8}{'1000 CHF':>10}{'1000 USD':>10}"
    lines = [*heading(work)[:-1], "", f"{'system':46}{'split':>9}{columns}"]
    found = compare(work)
    lines += [_row(c, work) for c in found]
    lines += ["", "tok/s a watt and per 1000 of the currency: of the middle, by the latest price", "", "figures:"]
    lines += [f"  {figure}: {', '.join(names)}" for figure, names in _sources([c.system for c in found]).items()]
    return "\n".join([*lines, "", "assumed:", *(f"  {note}" for note in _assumptions())])


def _row(c: Compared, work: Workload) -> str:
    system, expected = c.system, c.expected_tokens_per_s
    if expected is None or c.prediction is None:
        needed = (weight_bytes(work.model, work.format) + work.batch * cache_bytes(work.model, work.context)) / 1e9
        room = system.parts[0] * system.memory.value * 2**30 / 1e9
        return f"{system.title:46}{'-':>9}  does not fit: {needed:.1f} GB of weights and cache, room for {room:.1f}"
    interval = f"{units.number(expected.mid)} [{units.number(expected.low)}, {units.number(expected.high)}]"
    ceiling = sum(p.ceiling_tokens_per_s for p in (c.prediction, *c.others))
    prices = "".join(f"{units.number(_per_1000(c, currency)):>10}" for currency in ("CHF", "USD"))
    watt = units.number(c.tokens_per_s_per_watt)
    return f"{system.title:46}{_parallelism(c):>9}{interval:>24}{units.number(ceiling):>9}{watt:>8}{prices}"


def _per_1000(c: Compared, currency: str) -> float | None:
    prices = [price for price in c.system.prices if price.currency == currency]
    return None if not prices else c.tokens_per_s_per_1000(max(prices, key=lambda price: price.date))


def _sources(systems: list[System]) -> dict[str, list[str]]:
    """Every figure with its source -> the systems that it is of."""
    found: dict[str, list[str]] = {}
    for system in systems:
        figures = [("GB/s a unit", system.bandwidth), ("GiB a unit", system.memory), ("W", system.power_w)]
        lines = [f"{f.value:g} {unit} ({f.source})" for unit, f in figures if f is not None]
        lines += [f"{p.amount:g} {p.currency}, {p.date}, {p.what} ({p.source})" for p in system.prices]
        for line in (*lines, *([system.note] if system.note else [])):
            found.setdefault(line, []).append(system.name)
    return found
