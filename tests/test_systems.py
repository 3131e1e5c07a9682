"""Systems side by side: figures that have sources, and sums that follow from them."""

from __future__ import annotations

import pytest

from roofprobe.ceiling import platforms
from roofprobe.compare_output import compare_json, compare_text
from roofprobe.machines import EFFICIENCY
from roofprobe.models import find_model
from roofprobe.step_terms import Workload
from roofprobe.systems import System, compare, systems, unit_machine

NAMES = [
    "dgx-spark",
    "asus-ascent-gx10",
    "dell-pro-max-gb10",
    "lenovo-thinkstation-pgx",
    "cluster-2",
    "cluster-3",
    "cluster-2+1",
    "cluster-4",
    "rtx-pro-6000",
    "mac-studio",
    "h100",
]
WORK = Workload(find_model("gpt-oss-120b"), "gguf-mxfp4")


def system(name: str) -> System:
    return next(s for s in systems() if s.name == name)


def test_every_system_is_there_with_memory_and_bandwidth_and_a_source_for_each_figure() -> None:
    assert [s.name for s in systems()] == NAMES
    known = {p.name for p in platforms()}
    for s in systems():
        assert s.platform is None or s.platform in known
        figures = [s.bandwidth, s.memory, *([s.power_w] if s.power_w else []), *s.prices]
        assert all(figure.source for figure in figures)
        assert all(price.date and len(price.currency) == 3 for price in s.prices)


def test_gb10s_read_was_measured_and_other_memories_take_its_share_of_their_nominal_rate() -> None:
    spark, card = unit_machine(system("dgx-spark")), unit_machine(system("rtx-pro-6000"))
    assert (spark.bandwidth_gb_per_s, spark.efficiency) == (234, EFFICIENCY)
    assert card.bandwidth_gb_per_s == 1792
    assert card.efficiency.mid == pytest.approx(EFFICIENCY.mid * 234 / 273.1)


def test_several_units_are_used_in_the_way_that_is_likely_fastest() -> None:
    found = {c.system.name: c for c in compare(WORK)}
    shown = {name: "+".join(p.name for p in (c.prediction, *c.others) if p) for name, c in found.items()}
    assert shown["cluster-2"] == "tp2" and shown["cluster-4"] == "tp4"
    assert shown["cluster-3"] in ("dp3", "pp3")  # 64 query heads don't divide by three
    assert shown["cluster-2+1"] == "tp2+tp1"
    together = found["cluster-2+1"].expected_tokens_per_s
    pair, alone = found["cluster-2"].expected_tokens_per_s, found["asus-ascent-gx10"].expected_tokens_per_s
    assert together and pair and alone
    assert together.mid == pytest.approx(pair.mid + alone.mid)


def test_rates_per_watt_and_per_price_are_the_middle_over_the_figure() -> None:
    found = next(c for c in compare(WORK) if c.system.name == "cluster-2")
    expected = found.expected_tokens_per_s
    assert expected and found.tokens_per_s_per_watt == pytest.approx(expected.mid / 280)
    assert found.tokens_per_s_per_1000(found.system.prices[0]) == pytest.approx(expected.mid / 5.004)
    dell = next(c for c in compare(WORK) if c.system.name == "dell-pro-max-gb10")
    assert dell.tokens_per_s_per_watt is None


def test_what_does_not_fit_is_shown_last_and_without_a_rate() -> None:
    work = Workload(find_model("llama-3.1-70b"), "bf16")
    document = compare_json(work)
    fitting = [s["fits"] for s in document["systems"]]
    assert fitting == sorted(fitting, reverse=True)
    missing = {s["system"] for s in document["systems"] if not s["fits"]}
    assert {"dgx-spark", "h100", "rtx-pro-6000"} <= missing and "cluster-2" not in missing
    assert all(s["expected_tokens_per_s"] is None for s in document["systems"] if not s["fits"])
    assert "does not fit: 141.1 GB of weights and cache, room for 130.6" in compare_text(work)


def test_the_table_has_a_row_for_each_system_and_where_its_figures_were_read() -> None:
    text = compare_text(WORK)
    for s in systems():
        assert sum(line.startswith(s.title) for line in text.splitlines()) == 1
        assert f"({s.bandwidth.source})" in text and f"({s.memory.source})" in text
        for price in s.prices:
            assert f"{price.amount:g} {price.currency}, {price.date}" in text
    assert "memory other than GB10's was not measured" in text
