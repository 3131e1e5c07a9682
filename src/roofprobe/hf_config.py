"""A model's architecture from the config.json that Hugging Face checkpoints carry.

Only architectures whose shapes are known are read, by their `model_type`; any other is an error, never a guess. A
configuration that leaves a field out has that architecture's default, as transformers does. Layers that only predict
further tokens (`num_nextn_predict_layers`, `mtp_num_hidden_layers`) are left out of a decode step; `notes` says so.

Source: transformers, src/transformers/models/*/configuration_*.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from roofprobe.errors import BadInput
from roofprobe.models import (
    Architecture,
    Attention,
    Dense,
    Experts,
    LatentAttention,
    LinearAttention,
    Model,
    Part,
    Shipped,
    ShippedFormat,
)

LARGEST_BYTES = 16 << 20
"""More than any configuration: a larger file is something else."""
LINEAR: tuple[Part, ...] = ("attention", "dense", "expert", "shared_expert")

T = TypeVar("T", int, bool)


@dataclass(frozen=True)
class _Family:
    """What the architectures of one kind leave out of their configurations."""

    tied: bool = False
    head_dim: int | None = None
    """None: hidden over heads."""
    experts: str | None = None
    """The field that counts them; None for a dense model."""
    latent: bool = False
    linear: bool = False
    window_every: int | None = None
    """Without `layer_types`: every so many layers one of full attention, the others with a window."""


FAMILIES = {
    "llama": _Family(),
    "mistral": _Family(),
    "ministral": _Family(head_dim=128),
    "phi3": _Family(),
    "qwen2": _Family(),
    "qwen3": _Family(head_dim=128),
    "gemma2": _Family(tied=True, head_dim=256, window_every=2),
    "gemma3_text": _Family(tied=True, head_dim=256, window_every=6),
    "mixtral": _Family(experts="num_local_experts"),
    "gpt_oss": _Family(head_dim=64, experts="num_local_experts", window_every=2),
    "qwen2_moe": _Family(experts="num_experts"),
    "qwen3_moe": _Family(experts="num_experts"),
    "glm4_moe": _Family(head_dim=128, experts="n_routed_experts"),
    "deepseek_v2": _Family(experts="n_routed_experts", latent=True),
    "deepseek_v3": _Family(experts="n_routed_experts", latent=True),
    "kimi_k2": _Family(experts="n_routed_experts", latent=True),
    "llama4_text": _Family(head_dim=128, experts="num_local_experts"),
    "qwen3_next": _Family(head_dim=256, experts="num_experts", linear=True),
    "qwen3_5_text": _Family(head_dim=256, linear=True),
    "qwen3_5_moe_text": _Family(head_dim=256, experts="num_experts", linear=True),
}


@dataclass(frozen=True)
class ConfiguredModel:
    """A model and what a reader of its figures has to know."""

    model: Model
    notes: tuple[str, ...]


def load_config(path: Path, *, as_shipped: bool = True) -> ConfiguredModel:
    """Reads ``config.json``, or the folder that holds it. Raises BadInput naming file, field, expected and found.

    as_shipped: whether the format that it was quantized to matters; without, one that is not known is no error.
    """
    if path.is_dir():
        path = path / "config.json"
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise BadInput(f"{path} is larger than any model's configuration; expected a config.json")
        document = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except OSError as error:
        raise BadInput(f"can't read {path}: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(f"{path}: not a configuration: {error}") from None
    return _Reader(path, document, as_shipped).model()


class _Reader:
    """One configuration's text part, its fields checked one by one."""

    def __init__(self, path: Path, document: Mapping[str, Any], as_shipped: bool) -> None:
        self._path = path
        self._as_shipped = as_shipped
        nested = document.get("text_config")
        if nested is not None and not isinstance(nested, dict):
            raise self._wrong("text_config", "an object", nested)
        # What the parts of a model of text and images share may stand outside.
        self._fields: dict[str, Any] = {**document, **nested} if nested else dict(document)
        self._outer_quantization = document.get("quantization_config")
        kind = self._fields.get("model_type")
        if nested and f"{kind}_text" in FAMILIES:
            kind = f"{kind}_text"
        if not isinstance(kind, str) or kind not in FAMILIES:
            known = ", ".join(FAMILIES)
            raise BadInput(f"{path}: model_type: expected one of {known}, found {kind!r}, whose shapes are not known")
        self._kind: str = kind
        self._family = FAMILIES[kind]

    def model(self) -> ConfiguredModel:
        layers = self._int("num_hidden_layers")
        linear_layers = self._linear_layers(layers)
        moe_layers = self._moe_layers(layers)
        source = f"{self._path.name}, model_type {self._kind}"
        model = Model(
            name=self._path.parent.name or self._kind,
            title=self._kind,
            architecture=Architecture(
                source=source,
                layers=layers,
                hidden=self._int("hidden_size"),
                vocab=self._int("vocab_size"),
                tied_embeddings=self._bool("tie_word_embeddings", self._family.tied),
            ),
            attention=None if self._family.latent else self._attention(source, layers - linear_layers),
            latent_attention=self._latent(source, layers) if self._family.latent else None,
            linear_attention=self._linear(source, linear_layers) if linear_layers else None,
            dense=self._dense(source, layers - moe_layers) if layers > moe_layers else None,
            experts=self._experts(source, moe_layers) if moe_layers else None,
            shipped=self._shipped(source),
        )
        extra = max(self._int(field, 0, least=0) for field in ("num_nextn_predict_layers", "mtp_num_hidden_layers"))
        notes = [f"{extra} multi-token prediction layer{'s' * (extra > 1)} left out"] if extra else []
        return ConfiguredModel(model, tuple(notes))

    def _attention(self, source: str, layers: int) -> Attention:
        heads = self._int("num_attention_heads")
        sliding, window = self._sliding(layers)
        return Attention(
            source=source,
            layers=layers,
            heads=heads,
            kv_heads=self._int("num_key_value_heads", heads),
            head_dim=self._int("head_dim", self._family.head_dim or self._int("hidden_size") // heads),
            output_gate=self._bool("attn_output_gate", self._family.linear),
            sliding_layers=sliding,
            window=window if sliding else None,
        )

    def _sliding(self, layers: int) -> tuple[int, int | None]:
        types = self._fields.get("layer_types")
        if types is not None:
            sliding = self._count(types, "sliding_attention")
        elif self._family.window_every is not None:
            every = self._int("sliding_window_pattern", self._family.window_every)
            sliding = layers - layers // every
        elif self._kind in ("mistral", "phi3") and self._fields.get("sliding_window") is not None:
            sliding = layers
        else:
            sliding = 0
        return sliding, self._int("sliding_window") if sliding else None

    def _latent(self, source: str, layers: int) -> LatentAttention:
        rank = self._fields.get("q_lora_rank")
        return LatentAttention(
            source=source,
            layers=layers,
            heads=self._int("num_attention_heads"),
            q_rank=None if rank is None else self._int("q_lora_rank"),
            kv_rank=self._int("kv_lora_rank"),
            nope_head_dim=self._int("qk_nope_head_dim"),
            rope_head_dim=self._int("qk_rope_head_dim"),
            v_head_dim=self._int("v_head_dim"),
        )

    def _linear_layers(self, layers: int) -> int:
        if not self._family.linear:
            return 0
        types = self._fields.get("layer_types")
        if types is not None:
            return self._count(types, "linear_attention")
        return layers - layers // self._int("full_attention_interval", 4)

    def _linear(self, source: str, layers: int) -> LinearAttention:
        widths = self._int("linear_key_head_dim"), self._int("linear_value_head_dim")
        if widths[0] != widths[1]:
            raise self._wrong("linear_value_head_dim", f"{widths[0]}, as linear_key_head_dim", widths[1])
        return LinearAttention(
            source=source,
            layers=layers,
            k_heads=self._int("linear_num_key_heads"),
            v_heads=self._int("linear_num_value_heads"),
            head_dim=widths[0],
        )

    def _moe_layers(self, layers: int) -> int:
        if self._family.experts is None:
            return 0
        if self._kind == "llama4_text":
            named = self._fields.get("moe_layers")
            if named is not None:
                return min(layers, len(self._list("moe_layers")))
            return layers // self._int("interleave_moe_layer_step", 1)
        dense = self._int("first_k_dense_replace", 0, least=0)
        if dense > layers:
            raise self._wrong("first_k_dense_replace", f"at most {layers}, the number of layers", dense)
        if self._fields.get("mlp_only_layers"):
            dense = min(layers, dense + len(self._list("mlp_only_layers")))
        return (layers - dense) // self._int("decoder_sparse_step", 1)

    def _dense(self, source: str, layers: int) -> Dense:
        field = "intermediate_size_mlp" if self._kind == "llama4_text" else "intermediate_size"
        return Dense(source=source, layers=layers, intermediate=self._int(field))

    def _experts(self, source: str, layers: int) -> Experts:
        assert self._family.experts is not None
        width = self._int("moe_intermediate_size" if "moe_intermediate_size" in self._fields else "intermediate_size")
        shared, shared_width = self._int("n_shared_experts", 0, least=0), width
        if self._kind == "llama4_text":
            shared = 1
        elif "shared_expert_intermediate_size" in self._fields:
            shared, shared_width = 1, self._int("shared_expert_intermediate_size")
        per_token = "experts_per_token" if "experts_per_token" in self._fields else "num_experts_per_tok"
        count, top_k = self._int(self._family.experts), self._int(per_token)
        if top_k > count:
            raise self._wrong(per_token, f"at most {count}, the number of experts", top_k)
        return Experts(
            source=source,
            layers=layers,
            count=count,
            top_k=top_k,
            intermediate=width,
            shared=shared,
            shared_intermediate=shared_width,
        )

    def _shipped(self, source: str) -> Shipped | None:
        found = self._fields.get("quantization_config") or self._outer_quantization
        return Shipped(source=source, parts=self._formats(found)) if found is not None and self._as_shipped else None

    def _formats(self, found: object) -> dict[Part, ShippedFormat]:
        if not isinstance(found, dict):
            raise self._wrong("quantization_config", "an object", found)
        method, algorithm = found.get("quant_method"), str(found.get("quant_algo", "")).upper()
        if method == "mxfp4":
            return {"expert": "mxfp4"}
        if method == "fp8" or algorithm == "FP8":
            return dict.fromkeys(LINEAR, "fp8")
        if algorithm == "NVFP4" or "nvfp4" in str(found.get("format", "")):
            return dict.fromkeys(LINEAR, "nvfp4")
        text = f"expected mxfp4, fp8 or NVFP4, found {str(method)[:40]!r}; say which to take with --format"
        raise BadInput(f"{self._path}: quantization_config: {text}")

    def _int(self, field: str, default: int | None = None, least: int = 1) -> int:
        value = self._fields.get(field)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 1 << 40:
            raise self._wrong(field, f"a whole number of at least {least}", value)
        return value

    def _bool(self, field: str, default: bool) -> bool:
        value = self._fields.get(field)
        value = default if value is None else value
        if not isinstance(value, bool):
            raise self._wrong(field, "true or false", value)
        return value

    def _list(self, field: str) -> Sequence[Any]:
        value = self._fields.get(field)
        if not isinstance(value, list):
            raise self._wrong(field, "a list", value)
        return value

    def _count(self, types: object, name: str) -> int:
        if not isinstance(types, list) or not all(isinstance(each, str) for each in types):
            raise self._wrong("layer_types", "a list of names", types)
        if len(types) != self._int("num_hidden_layers"):
            raise self._wrong("layer_types", f"{self._int('num_hidden_layers')} names", len(types))
        return types.count(name)

    def _wrong(self, field: str, expected: str, found: object) -> BadInput:
        text = repr(found)
        return BadInput(f"{self._path}: {field}: expected {expected}, found {text[:40]}")
