"""The most that memory and link allow, against predictions and by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from roofprobe.machines import given_machine
from roofprobe.models import find_model
from roofprobe.rate_bounds import GB10, Step, bounds
from roofprobe.scaling import Kind, Workload, predict
from roofprobe.weight_formats import Format


@pytest.mark.parametrize(
    ("model", "name", "kind", "units", "batch", "context"),
    [
        pytest.param("gpt-oss-120b", "as-shipped", "tp", 1, 1, 0, id="one unit"),
        pytest.param("qwen3-coder-30b-a3b", "fp8", "tp", 4, 8, 4096, id="a batch over four, with caches"),
        pytest.param("gpt-oss-20b", "gguf-mxfp4", "dp", 2, 4, 1000, id="two copies"),
        pytest.param("qwen3.5-397b-a17b", "iq4_xs", "tp", 2, 1, 0, id="a recurrent state"),
        pytest.param("deepseek-v3", "iq4_xs", "tp", 4, 2, 100, id="latent attention"),
    ],
)
def test_the_nominal_bound_is_the_predicted_ceiling(
    model: str, name: Format, kind: Kind, units: int, batch: int, context: int
) -> None:
    work = Workload(find_model(model), name, batch, context)
    ceiling = predict(work, given_machine(GB10.nominal_gb_per_s).machine, kind, units).ceiling_tokens_per_s
    found = bounds(Step(work.model, name, units, batch, context), GB10)
    way = next(w for w in found.ways if w.name in ("one unit", f"{kind}{units}"))
    assert way.nominal_tokens_per_s == pytest.approx(ceiling)
    assert way.measured_tokens_per_s is not None and way.measured_tokens_per_s < ceiling * 240 / 273


def test_no_likely_rate_is_called_implausible() -> None:
    step = Step(find_model("gpt-oss-120b"), "gguf-mxfp4", 2)
    work = Workload(step.model, step.format)
    likely = predict(work, given_machine().machine, "tp", 2).expected_tokens_per_s
    assert bounds(step, GB10).verdict(likely.high) == "plausible"


def test_a_slow_link_makes_two_copies_the_better_way() -> None:
    slow = replace(GB10, all_reduce_seconds=lambda _bytes, _ranks: 1e-3)
    step = Step(find_model("gpt-oss-120b"), "gguf-mxfp4", units=2, batch=2)
    assert [way.name for way in bounds(step, GB10).ways] == ["tp2", "dp2"]
    assert [way.name for way in bounds(step, slow).ways] == ["dp2", "tp2"]


def test_the_way_that_allows_most_decides() -> None:
    slow = replace(GB10, all_reduce_seconds=lambda _bytes, _ranks: 1e-3)
    found = bounds(Step(find_model("gpt-oss-120b"), "gguf-mxfp4", units=2), slow)
    dp, tp = found.ways
    assert (dp.name, tp.name) == ("dp2", "tp2")
    assert found.verdict(dp.nominal_tokens_per_s + 1) == "implausible"  # memory alone would allow it under tp
    assert found.verdict(tp.nominal_tokens_per_s + 1) == "impossible"
    assert found.verdict((dp.measured_tokens_per_s or 0) - 1) == "plausible"


@pytest.mark.parametrize(
    ("model", "name", "units", "ways"),
    [
        pytest.param("llama-3.1-70b", "bf16", 1, [], id="too large for one"),
        pytest.param("llama-3.1-70b", "bf16", 2, ["tp2"], id="no copy on each of two"),
        pytest.param("gpt-oss-20b", "as-shipped", 3, ["dp3"], id="64 heads over three"),
        pytest.param("qwen3.5-397b-a17b", "q4_k_m", 3, ["pp3"], id="neither split nor copied"),
    ],
)
def test_only_ways_that_exist_count(model: str, name: Format, units: int, ways: list[str]) -> None:
    found = bounds(Step(find_model(model), name, units), GB10)
    assert [way.name for way in found.ways] == ways
    assert found.verdict(1e9) == "impossible"
    assert (found.verdict(1e-9) == "plausible") == bool(ways)


def test_a_stated_parallelism_is_held_to() -> None:
    step = Step(find_model("qwen3.5-397b-a17b"), "q4_k_m", units=3)
    found = bounds(step, GB10, only="tp")
    assert not found.ways
    assert "32 query heads" in found.arithmetic


def test_caches_count_where_a_model_barely_fits() -> None:
    model = find_model("gpt-oss-120b")
    assert bounds(Step(model, "q8_0"), GB10).ways
    assert not bounds(Step(model, "q8_0", context=1 << 18), GB10).ways
