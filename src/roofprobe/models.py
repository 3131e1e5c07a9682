"""The model catalogue: which matrices a decode step multiplies with, and their shapes under tensor parallelism.

A model file (data/models/*.toml) holds the published architecture, each section with the place where it was read.
Everything else follows from it here. Parallelism splits as Megatron and its heirs do: projections out of the hidden
state (query/key/value, gate and up, lm_head) lose rows, projections back into it lose columns, and what is too small
to split (routers, MLA's down-projections) is held whole by every rank. With fewer key/value heads than ranks each
rank holds one, so that some are held twice. Experts are split, every one of them, not dealt out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
import tomllib
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from roofprobe.errors import BadInput

MODEL_FOLDER = Path(__file__).parent / "data" / "models"

Count = Annotated[int, Meta(ge=1)]
ShippedFormat = Literal["fp8", "nvfp4", "mxfp4"]
Part = Literal["attention", "dense", "expert", "shared_expert", "router", "lm_head", "embedding"]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Figures that were read in one place, which `source` names."""

    source: str


class Architecture(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Widths that the whole model shares. With tied embeddings the lm_head is the embedding table itself."""

    layers: Count
    hidden: Count
    vocab: Count
    tied_embeddings: bool


class Attention(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Softmax attention with grouped key/value heads; `output_gate` doubles the query projection.

    Of the layers, `sliding_layers` look back over `window` tokens at most, which are all that they keep.
    """

    layers: Count
    heads: Count
    kv_heads: Count
    head_dim: Count
    output_gate: bool = False
    sliding_layers: Annotated[int, Meta(ge=0)] = 0
    window: Count | None = None


class LatentAttention(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """DeepSeek's multi-head latent attention; without a rank of their own the queries come from one projection."""

    layers: Count
    heads: Count
    q_rank: Count | None
    kv_rank: Count
    nope_head_dim: Count
    rope_head_dim: Count
    v_head_dim: Count


class LinearAttention(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Gated delta net: as many query heads as key heads, a gate as wide as the values, two scalars a value head."""

    layers: Count
    k_heads: Count
    v_heads: Count
    head_dim: Count


class Dense(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Layers with a gated feed-forward network of one width."""

    layers: Count
    intermediate: Count


class Experts(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Layers whose feed-forward network is `count` experts, of which a token takes `top_k`, and the shared ones."""

    layers: Count
    count: Count
    top_k: Count
    intermediate: Count
    shared: Annotated[int, Meta(ge=0)]
    shared_intermediate: Count | None = None


class Shipped(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Formats of the parts that are not BF16 in what the makers ship."""

    parts: dict[Part, ShippedFormat]


class Published(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the makers say, rounded as they round it: a check on the shapes, never their source."""

    total_params_billion: float
    active_params_billion: float
    shipped_format: str


class Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model's architecture."""

    name: str
    title: str
    architecture: Architecture
    attention: Attention | None = None
    latent_attention: LatentAttention | None = None
    linear_attention: LinearAttention | None = None
    dense: Dense | None = None
    experts: Experts | None = None
    shipped: Shipped | None = None
    """None where all of it is BF16."""
    note: str | None = None
    """What is counted otherwise than the model computes it."""
    published: Published | None = None
    """None for a model that was read from its own configuration."""

    @property
    def total_params(self) -> int:
        """Weights of all projections and of the embeddings; norms, biases and sinks (below 0.01 %) left out."""
        tables = 0 if self.architecture.tied_embeddings else self.architecture.vocab * self.architecture.hidden
        return tables + sum(p.n * p.k * p.held * p.layers for p in projections(self))


@dataclass(frozen=True)
class Projection:
    """W[N, K] as one rank holds it.

    part: what it belongs to, as checkpoints choose formats. layers: how many layers have it. held: how many of this
    shape each of those layers holds; read: how many of them one token reads (the experts that it is sent to).
    """

    name: str
    part: Part
    n: int
    k: int
    layers: int
    held: int = 1
    read: int = 1


def projections(model: Model, tp: int = 1) -> tuple[Projection, ...]:
    """Every projection of the model as one of `tp` ranks holds it, in the order in which a token meets them.

    Raises BadInput, naming what does not divide, where the model can't be split so.
    """
    return tuple(_projections(model, tp))


def _projections(model: Model, tp: int) -> Iterator[Projection]:
    width = model.architecture.hidden

    def split(what: str, count: int) -> int:
        if count % tp:
            raise BadInput(f"{model.name}: {count} {what} can't be split over {tp} ranks; choose another --tp")
        return count // tp

    if a := model.attention:
        kv_heads = 1 if a.kv_heads < tp else split("key/value heads", a.kv_heads)
        heads = split("attention heads", a.heads)
        rows = (heads * (2 if a.output_gate else 1) + 2 * kv_heads) * a.head_dim
        yield Projection("qkv", "attention", rows, width, a.layers)
        yield Projection("o", "attention", width, heads * a.head_dim, a.layers)
    if m := model.latent_attention:
        heads = split("attention heads", m.heads)
        queries = heads * (m.nope_head_dim + m.rope_head_dim)
        if m.q_rank is None:
            yield Projection("q", "attention", queries, width, m.layers)
        else:
            yield Projection("q_a", "attention", m.q_rank, width, m.layers)
            yield Projection("q_b", "attention", queries, m.q_rank, m.layers)
        yield Projection("kv_a", "attention", m.kv_rank + m.rope_head_dim, width, m.layers)
        yield Projection("kv_b", "attention", heads * (m.nope_head_dim + m.v_head_dim), m.kv_rank, m.layers)
        yield Projection("o", "attention", width, heads * m.v_head_dim, m.layers)
    if g := model.linear_attention:
        k_heads, v_heads = split("linear attention key heads", g.k_heads), split("value heads", g.v_heads)
        yield Projection("linear_qkvz", "attention", 2 * (k_heads + v_heads) * g.head_dim, width, g.layers)
        yield Projection("linear_ba", "attention", 2 * v_heads, width, g.layers)
        yield Projection("linear_out", "attention", width, v_heads * g.head_dim, g.layers)
    if d := model.dense:
        inner = split("columns between the dense layers' projections", d.intermediate)
        yield Projection("gate_up", "dense", 2 * inner, width, d.layers)
        yield Projection("down", "dense", width, inner, d.layers)
    if e := model.experts:
        inner = split("columns between the experts' projections", e.intermediate)
        yield Projection("router", "router", e.count, width, e.layers)
        yield Projection("expert_gate_up", "expert", 2 * inner, width, e.layers, held=e.count, read=e.top_k)
        yield Projection("expert_down", "expert", width, inner, e.layers, held=e.count, read=e.top_k)
        if e.shared:
            inner = split("columns between the shared experts' projections", e.shared_intermediate or e.intermediate)
            for name, n, k in (("shared_gate_up", 2 * inner, width), ("shared_down", width, inner)):
                yield Projection(name, "shared_expert", n, k, e.layers, held=e.shared, read=e.shared)
    # Engines pad the vocabulary to what divides.
    yield Projection("lm_head", "lm_head", -(-model.architecture.vocab // tp), width, 1)


def load_model(path: Path) -> Model:
    """Reads one model file. Raises BadInput naming the file, the field, what was expected and what was found."""
    try:
        return msgspec.convert(tomllib.loads(path.read_text()), Model, strict=False)
    except OSError as error:
        raise BadInput(f"can't read model file {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise BadInput(f"{path}: {error}") from None


@cache
def models() -> tuple[Model, ...]:
    """Every model file that ships with roofprobe."""
    return tuple(load_model(path) for path in sorted(MODEL_FOLDER.glob("*.toml")))


def find_model(name: str) -> Model:
    """The model of that name. Raises BadInput with the nearest name for one that is not in the catalogue."""
    known = {model.name: model for model in models()}
    if name in known:
        return known[name]
    near = get_close_matches(name.lower(), known, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(known)}"
    raise BadInput(f"no model '{name}' in the catalogue; {hint}")
