"""Bytes a token and bytes a file, against what was published and what other people computed."""

from __future__ import annotations

import pytest

from roofprobe.errors import BadInput
from roofprobe.model_bytes import (
    all_reduce_bytes,
    all_reduces_per_token,
    cache_bytes,
    experts_read,
    kv_bytes_per_token,
    parameters_by_part,
    read_by_part,
    read_bytes,
    sliding_kv_bytes,
    state_bytes,
    weight_bytes,
)
from roofprobe.models import find_model, models
from roofprobe.weight_formats import FORMATS, Format, find_format

GB = 1e9


@pytest.mark.parametrize(
    ("model", "name", "gigabytes"),
    [
        pytest.param("gpt-oss-120b", "gguf-mxfp4", 63.372, id="ggml-org's file of gpt-oss-120b"),
        pytest.param("gpt-oss-20b", "gguf-mxfp4", 12.11, id="ggml-org's file of gpt-oss-20b"),
        pytest.param("llama-3.1-70b", "q8_0", 74.98, id="Q8_0 of Llama 3.1 70B"),
        pytest.param("llama-3.1-70b", "q4_k_m", 42.52, id="Q4_K_M of Llama 3.1 70B"),
        pytest.param("qwen3-coder-30b-a3b", "q4_k_m", 18.56, id="Q4_K_M of Qwen3-Coder 30B"),
        pytest.param("qwen3.5-397b-a17b", "q4_k_m", 241.0, id="Q4_K_M of Qwen3.5 397B, rounded there"),
        pytest.param("qwen3.5-397b-a17b", "iq4_xs", 212.0, id="IQ4_XS of Qwen3.5 397B, rounded there"),
    ],
)
def test_files_are_as_large_as_those_published(model: str, name: Format, gigabytes: float) -> None:
    assert weight_bytes(find_model(model), name) / GB == pytest.approx(gigabytes, rel=0.01)


@pytest.mark.parametrize(
    ("model", "name", "gigabytes"),
    [
        ("gpt-oss-120b", "as-shipped", 4.999),
        ("gpt-oss-120b", "gguf-mxfp4", 3.587),
        ("gpt-oss-120b", "mxfp4-all", 2.745),
        ("llama-3.1-70b", "bf16", 139.003),
        ("llama-3.1-70b", "fp8", 70.552),
        ("llama-3.1-70b", "nvfp4", 40.605),  # NVIDIA/dgx-spark-playbooks pull request 91 counts the same
        ("llama-3.1-70b", "q4_k_m", 42.135),
    ],
)
def test_what_a_token_reads_in_each_format(model: str, name: Format, gigabytes: float) -> None:
    assert read_bytes(find_model(model), name) / GB == pytest.approx(gigabytes, abs=1e-3)


@pytest.mark.parametrize(
    ("model", "per_token", "sliding", "state"),
    [
        ("gpt-oss-120b", 36864, 4718592, 0),
        ("gpt-oss-20b", 24576, 3145728, 0),
        ("llama-3.1-70b", 327680, 0, 0),
        ("deepseek-v3", 70272, 0, 0),
        ("llama-4-maverick", 196608, 0, 0),
        ("qwen3-coder-30b-a3b", 98304, 0, 0),
        ("qwen3.5-397b-a17b", 30720, 0, 377487360),
    ],
)
def test_the_cache(model: str, per_token: int, sliding: int, state: int) -> None:
    found = find_model(model)
    assert (kv_bytes_per_token(found), sliding_kv_bytes(found), state_bytes(found)) == (per_token, sliding, state)


def test_a_short_context_fills_no_window_and_a_long_one_only_grows_the_full_layers() -> None:
    model = find_model("gpt-oss-120b")
    per_layer = 2 * 8 * 64 * 2
    assert cache_bytes(model, 100) == 36 * per_layer * 100
    assert cache_bytes(model, 1128) - cache_bytes(model, 128) == 1000 * kv_bytes_per_token(model)
    assert cache_bytes(find_model("qwen3.5-397b-a17b"), 131072) / GB == pytest.approx(4.03 + 0.377 / 2, abs=0.005)


@pytest.mark.parametrize(("model", "count", "size"), [("gpt-oss-120b", 72, 5760), ("deepseek-v3", 122, 14336)])
def test_all_reduces(model: str, count: int, size: int) -> None:
    found = find_model(model)
    assert (all_reduces_per_token(found), all_reduce_bytes(found)) == (count, size)
    assert all_reduce_bytes(found, 8) == 8 * size


def test_a_batch_reads_the_union_of_its_experts() -> None:
    model = find_model("gpt-oss-120b")
    assert experts_read(model, 1) == (4, pytest.approx(4))
    fewest, expected = experts_read(model, 64)
    assert fewest == 4 and expected == pytest.approx(128 * (1 - (124 / 128) ** 64))
    assert read_by_part(model, 8.0)["expert"] == 2 * read_by_part(model)["expert"]
    assert experts_read(find_model("llama-3.1-70b"), 8) == (0, 0)


@pytest.mark.parametrize("model", models(), ids=lambda model: model.name)
def test_nothing_is_read_that_is_not_held_and_every_format_counts_every_part(model: object) -> None:
    assert isinstance(model, type(find_model("gpt-oss-20b")))
    held = parameters_by_part(model)
    assert all(count <= held[part] for part, count in read_by_part(model).items())
    assert sum(held.values()) == model.total_params
    for name in FORMATS:
        assert 0 < read_bytes(model, name) < weight_bytes(model, name)


def test_an_unknown_format_is_told_with_the_known_ones() -> None:
    assert find_format("NVFP4") == "nvfp4"
    with pytest.raises(BadInput, match=r"no weight format 'q5'; there are as-shipped, bf16"):
        find_format("q5")
