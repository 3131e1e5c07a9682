"""What a decode step moves and what a model occupies, from its architecture alone.

Weights: a step of batch 1 reads every projection once, of the experts those that the token is sent to, and the lm_head
(also where it is the embedding table); of the embedding it looks up one row, which is left out. With a batch the
tokens share what they read; `experts_read` says how many experts that are.

Cache: keys and values in 16 bits. A layer of full attention keeps them for every token of the context, one with a
sliding window for the window alone, multi-head latent attention keeps a compressed pair, and linear attention a state
of fixed size instead, in float32, that each step reads and writes.
"""

from __future__ import annotations

from collections.abc import Mapping

from roofprobe.models import Model, Part, projections
from roofprobe.weight_formats import Format, bits_by_part

ACTIVATION_BYTES = 2
CACHE_BYTES = 2
STATE_BYTES = 4


def parameters_by_part(model: Model) -> dict[Part, int]:
    """Weights that the model holds; tied embeddings count as the lm_head alone. Norms, biases, sinks are left out."""
    found: dict[Part, int] = {}
    if not model.architecture.tied_embeddings:
        found["embedding"] = model.architecture.vocab * model.architecture.hidden
    for p in projections(model):
        found[p.part] = found.get(p.part, 0) + p.n * p.k * p.layers * p.held
    return found


def read_by_part(model: Model, experts: float | None = None) -> dict[Part, float]:
    """Weights that a step reads, where each layer with experts reads `experts` of them (default: one token's)."""
    found: dict[Part, float] = {}
    for p in projections(model):
        read = p.read if p.part != "expert" or experts is None else experts
        found[p.part] = found.get(p.part, 0.0) + p.n * p.k * p.layers * read
    return found


def weight_bytes(model: Model, name: Format) -> float:
    """What the weights occupy in a format, in memory or in a file."""
    return _bytes(parameters_by_part(model), model, name)


def read_bytes(model: Model, name: Format, experts: float | None = None) -> float:
    """What a step reads of them, as `read_by_part`."""
    return _bytes(read_by_part(model, experts), model, name)


def _bytes(weights: Mapping[Part, float], model: Model, name: Format) -> float:
    bits = bits_by_part(model, name)
    return sum(count * bits[part] for part, count in weights.items()) / 8


def experts_read(model: Model, batch: float) -> tuple[float, float]:
    """(fewest, expected) experts of a layer that `batch` tokens read: all the same ones, or E (1 - (1 - k/E)^batch).

    The expectation takes every expert for equally likely and tokens for independent. A `batch` between whole numbers
    stands for tokens that are less than independent. (0, 0) without experts.
    """
    if model.experts is None:
        return 0.0, 0.0
    count, top_k = model.experts.count, model.experts.top_k
    return float(top_k), count * (1 - (1 - top_k / count) ** batch)


def kv_bytes_per_token(model: Model) -> int:
    """Cache that each token of the context adds to a sequence, over the layers of full attention."""
    total = 0
    if a := model.attention:
        total += (a.layers - a.sliding_layers) * 2 * a.kv_heads * a.head_dim * CACHE_BYTES
    if m := model.latent_attention:
        total += m.layers * (m.kv_rank + m.rope_head_dim) * CACHE_BYTES
    return total


def sliding_kv_bytes(model: Model, context: int | None = None) -> int:
    """Cache of the sliding-window layers of one sequence: their whole windows, or less for a shorter context."""
    a = model.attention
    if a is None or a.window is None:
        return 0
    tokens = a.window if context is None else min(a.window, context)
    return a.sliding_layers * tokens * 2 * a.kv_heads * a.head_dim * CACHE_BYTES


def state_size_bytes(model: Model) -> int:
    """Recurrent state of one sequence: a matrix of head_dim x head_dim for each value head."""
    g = model.linear_attention
    return 0 if g is None else g.layers * g.v_heads * g.head_dim * g.head_dim * STATE_BYTES


def state_bytes(model: Model) -> int:
    """What a step moves of it for one sequence: read once, written once."""
    return 2 * state_size_bytes(model)


def cache_bytes(model: Model, context: int) -> int:
    """Everything that one sequence of `context` tokens keeps."""
    return kv_bytes_per_token(model) * context + sliding_kv_bytes(model, context) + state_size_bytes(model)


def cache_traffic_bytes(model: Model, context: int) -> int:
    """What a step moves of it: keys and values are read, the state is read and written."""
    return kv_bytes_per_token(model) * context + sliding_kv_bytes(model, context) + state_bytes(model)


def all_reduces_per_token(model: Model) -> int:
    """Under tensor parallelism: one after each layer's attention or mixer, one after its feed-forward network."""
    return 2 * model.architecture.layers


def all_reduce_bytes(model: Model, batch: int = 1) -> int:
    """The message of each: the hidden state of every token of the batch."""
    return batch * model.architecture.hidden * ACTIVATION_BYTES
