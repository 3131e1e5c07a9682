"""config.json of each kind of architecture: the same figures as the catalogue's own files, and clear refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from roofprobe.errors import BadInput
from roofprobe.hf_config import FAMILIES, load_config
from roofprobe.model_bytes import (
    cache_bytes,
    kv_bytes_per_token,
    parameters_by_part,
    read_by_part,
    sliding_kv_bytes,
    state_bytes,
    weight_bytes,
)
from roofprobe.models import find_model, projections

LLAMA: dict[str, Any] = {
    "model_type": "llama", "num_hidden_layers": 80, "hidden_size": 8192, "vocab_size": 128256,
    "num_attention_heads": 64, "num_key_value_heads": 8, "intermediate_size": 28672,
}  # fmt: skip
GPT_OSS: dict[str, Any] = {
    "model_type": "gpt_oss", "num_hidden_layers": 36, "hidden_size": 2880, "vocab_size": 201088,
    "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 64, "intermediate_size": 2880,
    "num_local_experts": 128, "experts_per_token": 4, "sliding_window": 128,
    "layer_types": ["sliding_attention", "full_attention"] * 18, "quantization_config": {"quant_method": "mxfp4"},
}  # fmt: skip
QWEN3_MOE: dict[str, Any] = {
    "model_type": "qwen3_moe", "num_hidden_layers": 48, "hidden_size": 2048, "vocab_size": 151936,
    "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128, "intermediate_size": 6144,
    "num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 768, "decoder_sparse_step": 1,
    "mlp_only_layers": [],
}  # fmt: skip
DEEPSEEK: dict[str, Any] = {
    "model_type": "deepseek_v3", "num_hidden_layers": 61, "hidden_size": 7168, "vocab_size": 129280,
    "num_attention_heads": 128, "num_key_value_heads": 128, "q_lora_rank": 1536, "kv_lora_rank": 512,
    "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "intermediate_size": 18432,
    "first_k_dense_replace": 3, "n_routed_experts": 256, "num_experts_per_tok": 8, "n_shared_experts": 1,
    "moe_intermediate_size": 2048, "num_nextn_predict_layers": 1,
    "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
}  # fmt: skip
LLAMA4: dict[str, Any] = {
    "model_type": "llama4", "architectures": ["Llama4ForConditionalGeneration"],
    "text_config": {
        "model_type": "llama4_text", "num_hidden_layers": 48, "hidden_size": 5120, "vocab_size": 202048,
        "num_attention_heads": 40, "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 8192,
        "intermediate_size_mlp": 16384, "interleave_moe_layer_step": 2, "num_local_experts": 128,
        "num_experts_per_tok": 1, "attention_chunk_size": 8192,
    },
}  # fmt: skip
QWEN35: dict[str, Any] = {
    "model_type": "qwen3_5_moe",
    "text_config": {
        "model_type": "qwen3_5_moe_text", "num_hidden_layers": 60, "hidden_size": 4096, "vocab_size": 248320,
        "num_attention_heads": 32, "num_key_value_heads": 2, "head_dim": 256, "full_attention_interval": 4,
        "linear_num_key_heads": 16, "linear_num_value_heads": 64, "linear_key_head_dim": 128,
        "linear_value_head_dim": 128, "num_experts": 512, "num_experts_per_tok": 10, "moe_intermediate_size": 1024,
        "shared_expert_intermediate_size": 1024,
    },
}  # fmt: skip


def written(folder: Path, config: dict[str, Any]) -> Path:
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (LLAMA, "llama-3.1-70b"),
        (GPT_OSS, "gpt-oss-120b"),
        (QWEN3_MOE, "qwen3-coder-30b-a3b"),
        (DEEPSEEK, "deepseek-v3"),
        (LLAMA4, "llama-4-maverick"),
        (QWEN35, "qwen3.5-397b-a17b"),
    ],
    ids=["dense", "windows and experts", "experts", "latent attention", "nested, every second", "linear attention"],
)
def test_a_configuration_and_the_catalogue_agree(config: dict[str, Any], name: str, tmp_path: Path) -> None:
    found, known = load_config(written(tmp_path, config)).model, find_model(name)
    assert projections(found) == projections(known)
    assert parameters_by_part(found) == parameters_by_part(known)
    assert read_by_part(found) == read_by_part(known)
    assert weight_bytes(found, "as-shipped") == weight_bytes(known, "as-shipped")
    assert [f(found) for f in (kv_bytes_per_token, sliding_kv_bytes, state_bytes)] == [
        f(known) for f in (kv_bytes_per_token, sliding_kv_bytes, state_bytes)
    ]


def test_prediction_layers_are_left_out_and_said(tmp_path: Path) -> None:
    assert load_config(written(tmp_path, DEEPSEEK)).notes == ("1 multi-token prediction layer left out",)
    two = QWEN35 | {"text_config": QWEN35["text_config"] | {"mtp_num_hidden_layers": 2}}
    assert load_config(written(tmp_path, two)).notes == ("2 multi-token prediction layers left out",)
    assert load_config(written(tmp_path, LLAMA)).notes == ()


def test_another_programs_quantization_is_no_hindrance_where_a_format_is_given(tmp_path: Path) -> None:
    path = written(tmp_path, LLAMA | {"quantization_config": {"quant_method": "awq", "bits": 4}})
    with pytest.raises(BadInput, match="--format"):
        load_config(path)
    model = load_config(path, as_shipped=False).model
    assert weight_bytes(model, "int4-g128") == weight_bytes(find_model("llama-3.1-70b"), "int4-g128")


def test_tied_embeddings_follow_the_architecture_where_nothing_is_said(tmp_path: Path) -> None:
    gemma = {
        "model_type": "gemma3_text", "num_hidden_layers": 26, "hidden_size": 1152, "vocab_size": 262144,
        "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256, "intermediate_size": 6912,
        "sliding_window": 512,
    }  # fmt: skip
    tied = load_config(written(tmp_path, gemma)).model
    assert tied.architecture.tied_embeddings and "embedding" not in parameters_by_part(tied)
    assert "lm_head" in read_by_part(tied)
    assert tied.attention is not None and tied.attention.sliding_layers == 26 - 4  # every sixth is full
    assert load_config(written(tmp_path, gemma | {"tie_word_embeddings": None})).model == tied
    assert not load_config(written(tmp_path, LLAMA)).model.architecture.tied_embeddings
    untied = load_config(written(tmp_path, gemma | {"tie_word_embeddings": False})).model
    assert parameters_by_part(untied)["embedding"] == 262144 * 1152


def test_a_window_that_every_layer_has_bounds_the_cache(tmp_path: Path) -> None:
    mistral = LLAMA | {"model_type": "mistral", "sliding_window": 4096}
    model = load_config(written(tmp_path, mistral)).model
    assert cache_bytes(model, 100_000) == cache_bytes(model, 4096)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "mamba"}, "model_type: expected one of llama, .* found 'mamba'"),
        ({"hidden_size": "8192"}, "hidden_size: expected a whole number of at least 1, found '8192'"),
        ({"hidden_size": True}, "hidden_size"),
        ({"hidden_size": -1}, "hidden_size"),
        ({"vocab_size": None}, "vocab_size: expected a whole number of at least 1, found None"),
        ({"tie_word_embeddings": "no"}, "tie_word_embeddings: expected true or false"),
        ({"layer_types": ["full_attention"]}, "layer_types: expected 80 names, found 1"),
        ({"quantization_config": {"quant_method": "awq"}}, "quantization_config: expected mxfp4, fp8 or NVFP4"),
        ({"text_config": 3}, "text_config: expected an object, found 3"),
        (QWEN3_MOE | {"num_experts_per_tok": 129}, "num_experts_per_tok: expected at most 128, .* found 129"),
    ],
)
def test_what_can_not_be_used_is_told(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=words):
        load_config(written(tmp_path, LLAMA | change))


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{", b"\xff\xfe", b'{"model_type": ["llama"]}', b'{"a":' + b"[" * 200_000]
)
def test_a_file_that_is_no_configuration_is_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(BadInput, match=r"config\.json"):
        load_config(tmp_path)


NOISE = st.none() | st.booleans() | st.integers(-2, 300) | st.text(max_size=3) | st.lists(st.integers(), max_size=2)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(FAMILIES)),
    st.dictionaries(st.sampled_from(sorted(LLAMA | GPT_OSS | DEEPSEEK | QWEN35["text_config"])), NOISE, max_size=6),
)
def test_whatever_a_field_holds_the_answer_is_a_model_or_bad_input(
    tmp_path_factory: pytest.TempPathFactory, kind: str, noise: dict[str, Any]
) -> None:
    config = LLAMA | GPT_OSS | DEEPSEEK | QWEN35["text_config"] | {"quantization_config": None} | noise
    folder = written(tmp_path_factory.mktemp("config"), config | {"model_type": kind})
    try:
        model = load_config(folder).model
    except BadInput:
        return
    assert model.total_params > 0
    assert all(p.layers > 0 for p in projections(model))
