"""Every term of a decode step against numbers worked out by hand, and what must hold for any model and machine."""

from __future__ import annotations

from itertools import product

import msgspec
import pytest

from roofprobe.errors import BadInput
from roofprobe.machines import given_machine
from roofprobe.models import find_model, models
from roofprobe.scaling import break_even_seconds, fits, fits_so, predict, require_divisible
from roofprobe.step_terms import KINDS, Kind, LinkTime, Machine, Range, Workload, rank_read_bytes
from roofprobe.weight_formats import Format

GPT = find_model("gpt-oss-120b")
LLAMA = find_model("llama-3.1-70b")


def machine(gb_per_s: float = 200.0, loaded_us: float | None = None) -> Machine:
    """Round numbers: 80 % of the bandwidth, 10 us a layer, an all-reduce of 30 us and 2 us more for its bytes."""
    loaded = None if loaded_us is None else loaded_us * 1e-6
    return Machine(
        bandwidth_gb_per_s=gb_per_s,
        efficiency=Range(0.7, 0.8, 0.9),
        layer_seconds=Range(8e-6, 10e-6, 12e-6),
        link=lambda _bytes, _ranks: LinkTime(Range(20e-6, 30e-6, 40e-6), 2e-6, loaded),
    )


def test_one_unit_reads_its_weights_and_its_cache_and_pays_for_its_layers() -> None:
    found = predict(Workload(LLAMA, "fp8", context=1000), machine(), "tp", 1)
    # 68.451 billion linear weights of a byte and 128256 x 8192 of two; 80 layers x 2 x 8 heads x 128 x 2 B a token.
    weights = (80 * (8192 * 10240 + 8192 * 8192 + 3 * 8192 * 28672) + 2 * 128256 * 8192) / 160e9
    assert found.terms.weights == pytest.approx(weights)
    assert found.terms.cache == pytest.approx(327680 * 1000 / 160e9)
    assert found.terms.state == found.terms.link_latency == found.terms.link_bandwidth == 0
    assert found.terms.fixed == pytest.approx(80 * 10e-6)
    assert found.expected_tokens_per_s.mid == pytest.approx(1 / (weights + 327680 * 1000 / 160e9 + 800e-6))
    assert found.ceiling_tokens_per_s == pytest.approx(1 / (0.8 * (weights + 327680 * 1000 / 160e9)))
    assert found.loaded_link_latency is None


def test_two_ranks_read_half_of_what_is_split_and_reduce_twice_a_layer() -> None:
    one = predict(Workload(GPT, "bf16", context=2048), machine(), "tp", 1)
    two = predict(Workload(GPT, "bf16", context=2048), machine(), "tp", 2)
    router = 36 * 128 * 2880 * 2 / 160e9  # every rank reads all of it
    assert two.terms.weights == pytest.approx((one.terms.weights - router) / 2 + router)
    assert two.terms.cache == pytest.approx(one.terms.cache / 2)
    assert two.terms.link_latency == pytest.approx(72 * 30e-6)
    assert two.terms.link_bandwidth == pytest.approx(72 * 2e-6)
    assert two.terms.fixed == one.terms.fixed
    assert two.ceiling_tokens_per_s == pytest.approx(2 * one.ceiling_tokens_per_s)


def test_the_message_is_the_hidden_state_of_every_token_in_flight() -> None:
    asked: list[tuple[int, int]] = []

    def link(message_bytes: int, ranks: int) -> LinkTime:
        asked.append((message_bytes, ranks))
        return LinkTime(Range.of(1e-6), 0.0)

    linked = Machine(200.0, Range.of(1.0), Range.of(0.0), link)
    predict(Workload(GPT, "bf16", batch=8, draft=3, acceptance=0.5), linked, "tp", 4)
    assert set(asked) == {(8 * 4 * 2880 * 2, 4)}
    asked.clear()
    predict(Workload(GPT, "bf16", batch=8), linked, "pp", 4)
    assert set(asked) == {(2 * 2880 * 2, 2)}


def test_key_value_heads_and_latent_caches_are_held_by_more_than_one_rank() -> None:
    qwen = find_model("qwen3.5-397b-a17b")  # 2 key/value heads, so 4 ranks hold each twice
    one, four = (predict(Workload(qwen, "bf16", context=4096), machine(), "tp", n).terms for n in (1, 4))
    assert four.cache == pytest.approx(one.cache / 2)
    assert one.state == pytest.approx(377487360 / 160e9) and four.state == pytest.approx(one.state / 4)
    latent = find_model("deepseek-v3")
    one, two = (predict(Workload(latent, "fp8", context=4096), machine(), "tp", n).terms for n in (1, 2))
    assert two.cache == one.cache == pytest.approx(70272 * 4096 / 160e9)


def test_a_pipeline_gives_one_stream_nothing_and_several_streams_a_stage_each() -> None:
    one = predict(Workload(LLAMA, "fp8"), machine(), "tp", 1)
    alone = predict(Workload(LLAMA, "fp8"), machine(), "pp", 2)
    assert alone.ceiling_tokens_per_s == pytest.approx(one.ceiling_tokens_per_s)
    assert alone.terms.total == pytest.approx(one.terms.total + 2 * 32e-6)  # to the next stage and back
    both = predict(Workload(LLAMA, "fp8", batch=2), machine(), "pp", 2)
    assert both.expected_tokens_per_s.mid == pytest.approx(2 * alone.expected_tokens_per_s.mid)
    uneven = predict(Workload(LLAMA, "fp8", batch=3, context=1000), machine(), "pp", 2)
    assert uneven.expected_tokens_per_s.mid == pytest.approx(3 / uneven.terms.total)  # at the pace of the two


def test_data_parallel_units_share_nothing_and_each_goes_at_its_own_pace() -> None:
    def rate(batch: int, kind: Kind = "tp", units: int = 1) -> float:
        return predict(Workload(GPT, "mxfp4", batch, 1000), machine(), kind, units).expected_tokens_per_s.mid

    assert rate(1, "dp", 4) == pytest.approx(rate(1))
    assert rate(2, "dp", 2) == pytest.approx(2 * rate(1))
    assert rate(5, "dp", 2) == pytest.approx(rate(3) + rate(2))


def test_a_batch_reads_the_expected_union_in_the_middle_and_one_tokens_experts_in_the_ceiling() -> None:
    one, many = (predict(Workload(GPT, "mxfp4", batch), machine(), "tp", 1) for batch in (1, 16))
    per_expert = 36 * 3 * 2880 * 2880 * 4.25 / 8 / 160e9
    union = 128 * (1 - (124 / 128) ** 16)
    assert many.terms.weights - one.terms.weights == pytest.approx((union - 4) * per_expert)
    assert many.ceiling_tokens_per_s == pytest.approx(16 * one.ceiling_tokens_per_s)


def test_drafted_tokens_that_are_right_come_with_the_step_and_all_of_them_choose_experts() -> None:
    work = Workload(GPT, "mxfp4", draft=3, acceptance=0.7)
    assert work.tokens_per_step == pytest.approx((1 - 0.7**4) / 0.3)
    assert Workload(GPT, "mxfp4", draft=3, acceptance=1.0).tokens_per_step == 4
    plain, drafted = (predict(w, machine(), "tp", 1) for w in (Workload(GPT, "mxfp4", batch=4), work))
    assert drafted.terms.weights == pytest.approx(plain.terms.weights)
    assert drafted.expected_tokens_per_s.mid == pytest.approx(work.tokens_per_step / drafted.terms.total)


def test_latency_under_load_moves_the_low_end_and_nothing_else() -> None:
    alone, loaded = (predict(Workload(GPT, "mxfp4"), machine(loaded_us=us), "tp", 2) for us in (None, 60.0))
    assert loaded.loaded_link_latency == pytest.approx(72 * 60e-6)
    assert loaded.terms == alone.terms
    assert loaded.expected_tokens_per_s.low < alone.expected_tokens_per_s.low
    assert loaded.expected_tokens_per_s.high == alone.expected_tokens_per_s.high


def test_a_second_unit_pays_up_to_the_break_even_and_not_beyond() -> None:
    seconds = break_even_seconds(Workload(LLAMA, "fp8"), machine())
    assert seconds is not None
    one = predict(Workload(LLAMA, "fp8"), machine(), "tp", 1).terms.total
    for factor in (0.99, 1.01):
        latency = Range.of(factor * seconds)
        linked = Machine(200.0, Range.of(0.8), Range.of(10e-6), lambda _b, _n, t=latency: LinkTime(t, 0.0))
        assert (predict(Workload(LLAMA, "fp8"), linked, "tp", 2).terms.total < one) == (factor < 1)


def test_what_does_not_divide_is_refused_by_name() -> None:
    with pytest.raises(BadInput, match=r"qwen3-coder-30b-a3b has 32 query heads, .* over 3 ranks \(--tp 3\)"):
        predict(Workload(find_model("qwen3-coder-30b-a3b"), "bf16"), machine(), "tp", 3)
    predict(Workload(find_model("qwen3-coder-30b-a3b"), "bf16"), machine(), "pp", 3)
    require_divisible(find_model("qwen3.5-397b-a17b"), 4)  # 2 key/value heads are replicated


def test_a_vocabulary_that_does_not_divide_is_padded() -> None:
    odd = msgspec.structs.replace(LLAMA, architecture=msgspec.structs.replace(LLAMA.architecture, vocab=128257))
    more = rank_read_bytes(odd, "bf16", 4) - rank_read_bytes(LLAMA, "bf16", 4)
    assert more == 8192 * 2


@pytest.mark.parametrize(
    ("model", "name", "fitting"),
    [
        ("gpt-oss-120b", "as-shipped", [True, True, True, True]),  # 65.2 of 130.6 GB
        ("llama-3.1-70b", "bf16", [False, True, True, True]),  # 141.1
        ("qwen3.5-397b-a17b", "q4_k_m", [False, True, True, True]),  # 240.6 of 261.1
        ("deepseek-v3", "as-shipped", [False, False, False, False]),  # 671 of 522 GB in FP8
    ],
)
def test_what_fits(model: str, name: Format, fitting: list[bool]) -> None:
    assert [fits(find_model(model), name, n, 0) for n in (1, 2, 3, 4)] == fitting


def test_data_parallelism_needs_room_for_the_model_on_each_unit() -> None:
    work = Workload(LLAMA, "bf16", batch=2)
    assert [fits_so(work, kind, 2) for kind in KINDS] == [True, True, False]
    # 42.7 GB of weights and two caches of 65.5 GB, where a unit holds 130.6.
    work = Workload(LLAMA, "nvfp4", batch=2, context=200_000)
    assert [fits_so(work, "tp", 1), fits_so(work, "dp", 2)] == [False, True]


@pytest.mark.parametrize("model", models(), ids=lambda model: model.name)
def test_ranks_together_hold_every_weight(model: object) -> None:
    assert isinstance(model, type(GPT))
    assert (
        rank_read_bytes(model, "bf16", 1)
        <= 2 * rank_read_bytes(model, "bf16", 2)
        <= 4 * rank_read_bytes(model, "bf16", 4)
    )


@pytest.mark.parametrize("model", models(), ids=lambda model: model.name)
def test_bounds_hold_whatever_is_asked(model: object) -> None:
    assert isinstance(model, type(GPT))
    slower, faster = given_machine(200.0).machine, given_machine(210.0, 30.0).machine
    for kind, units, batch, context, draft in product(KINDS, (1, 2, 4), (1, 3, 64), (0, 100_000), (0, 4)):
        work = Workload(model, "nvfp4", batch, context, draft, 0.7 if draft else 0.0)
        found = predict(work, slower, kind, units)
        expected = found.expected_tokens_per_s
        assert 0 < expected.low <= expected.mid <= expected.high <= found.ceiling_tokens_per_s
        assert expected.high <= 2 * expected.low * (1 + 1e-12)
        better = predict(work, faster, kind, units)
        assert better.ceiling_tokens_per_s > found.ceiling_tokens_per_s
        assert better.expected_tokens_per_s.mid > expected.mid


def test_even_a_model_that_is_all_layers_has_an_interval_of_two_at_most() -> None:
    slow = Machine(234.0, Range(0.1, 0.9, 1.0), Range(1e-6, 50e-6, 1e-3), lambda _b, _n: LinkTime(Range.of(0.1), 0.0))
    for kind in KINDS:
        expected = predict(Workload(GPT, "mxfp4", batch=4), slow, kind, 2).expected_tokens_per_s
        assert expected.low <= expected.mid <= expected.high <= 2 * expected.low * (1 + 1e-12)
