"""Single facts about a model as documents state them, each with the sum that gives it."""

from __future__ import annotations

from dataclasses import dataclass

from roofprobe.claims_data import Fact
from roofprobe.model_bytes import (
    cache_bytes,
    kv_bytes_per_token,
    read_by_part,
    read_bytes,
    state_size_bytes,
    weight_bytes,
)
from roofprobe.models import Model
from roofprobe.weight_formats import Format


@dataclass(frozen=True)
class Found:
    """1e9 weights, GB, or pieces; `has_format`: whether the weight format has a part in it."""

    value: float
    arithmetic: str
    has_format: bool = False


def fact(model: Model, name: Format, what: Fact, context: int) -> Found:
    """What the model's architecture says; GB are 1e9 bytes."""
    heads = model.attention
    match what:
        case "parameters":
            total = model.total_params / 1e9
            return Found(total, f"its matrices hold {total:.4g}e9 weights")
        case "active parameters":
            active = sum(read_by_part(model).values()) / 1e9
            return Found(active, f"a token reads {active:.4g}e9 weights")
        case "layers":
            return Found(model.architecture.layers, f"{model.architecture.layers} layers in its configuration")
        case "full-attention layers":
            count = 0 if heads is None else heads.layers - heads.sliding_layers
            return Found(count, f"{count} layers of full attention in its configuration")
        case "key/value heads":
            count = 0 if heads is None else heads.kv_heads
            return Found(count, f"{count} key/value heads in its configuration")
        case "read":
            read = read_bytes(model, name) / 1e9
            return Found(read, f"{read:.4g} GB read a token in {name}", has_format=True)
        case "weights":
            held = weight_bytes(model, name) / 1e9
            return Found(held, f"{held:.4g} GB of weights in {name}", has_format=True)
        case "cache":
            keys_and_values = cache_bytes(model, context) - state_size_bytes(model)
            text = (
                f"{context} x {kv_bytes_per_token(model)} / 1e9 = {keys_and_values / 1e9:.4g} GB (tokens x B a token)"
            )
            return Found(keys_and_values / 1e9, text)
        case "weights and cache":
            held, cache = weight_bytes(model, name) / 1e9, cache_bytes(model, context) / 1e9
            both = f"{held:.4g} + {cache:.4g} = {held + cache:.4g} GB with the weights in {name}"
            return Found(held + cache, f"{_cache_text(model, context)}; {both}", has_format=True)


def _cache_text(model: Model, context: int) -> str:
    each, state = kv_bytes_per_token(model), state_size_bytes(model)
    plus, what = (f" + {state / 1e9:.3g}", " + state") if state else ("", "")
    cache = cache_bytes(model, context) / 1e9
    return f"{context} x {each} / 1e9{plus} = {cache:.4g} GB of cache (tokens x B a token{what})"
