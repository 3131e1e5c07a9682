"""Which shapes ``roofprobe tune`` tunes: one weight from its flags, or every projection of models of the catalogue.

A model's projections are a GEMV's and a dequantization's. The experts' are also a grouped GEMV's, since that is what
decode runs on them: those that a layer holds more of than a token reads. A shared expert serves every token, and is a
plain weight.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from roofprobe.arguments import positive_int
from roofprobe.models import Projection, find_model, models, projections
from roofprobe.probes.grouped import GPT_OSS, ExpertShape, add_expert_flags, expert_shape
from roofprobe.probes.weights import QUICK_SHAPES, Shape

MAX_BATCH = 16
EVERY_MODEL = "all"
RANKS = (1, 2, 4)


def add_tune_shape_flags(top: argparse.ArgumentParser) -> None:
    """``--model`` with ``--tp``, or ``--n``, ``--k``, ``--experts`` and ``--top-k``; ``--batch``."""
    plain, expert = QUICK_SHAPES[0], GPT_OSS
    top.add_argument("--model", metavar="M", help=f"every projection of a model of the catalogue, or '{EVERY_MODEL}'")
    top.add_argument("--tp", type=_counts, metavar="N,…", help="with --model: ranks that share it (default 1,2,4)")
    top.add_argument("--n", type=positive_int, help=f"rows of the weight (default {plain.n}; of an expert {expert.n})")
    top.add_argument("--k", type=positive_int, help=f"columns (default {plain.k}; of an expert {expert.k})")
    add_expert_flags(top, f"default {expert.experts}")
    top.add_argument(
        "--batch", type=_counts, default=(1,), metavar="B,…", help="vectors, or tokens, at once, 1 to 16 (default 1)"
    )


def _counts(text: str) -> tuple[int, ...]:
    return tuple(dict.fromkeys(positive_int(part) for part in text.split(",")))


def check_tune_shape_flags(top: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Flags that contradict each other end in a usage error."""
    if arguments.model is not None:
        for flag in ("n", "k", "experts", "top_k"):
            if getattr(arguments, flag) is not None:
                top.error(f"argument --model: has its own shapes; leave out --{flag.replace('_', '-')}")
    elif arguments.tp is not None:
        top.error("argument --tp: needs --model")
    if max(arguments.batch) > MAX_BATCH:
        top.error(f"argument --batch: {max(arguments.batch)} is above {MAX_BATCH}: a larger batch is no longer a GEMV")


def wanted_shapes(arguments: argparse.Namespace) -> list[Shape]:
    """Every weight's shape and batch that was asked for, once.

    Raises BadInput for an unknown model or an impossible split.
    """
    if arguments.model is None:
        sizes = [(arguments.n or QUICK_SHAPES[0].n, arguments.k or QUICK_SHAPES[0].k)]
    else:
        sizes = [(p.n, p.k) for p in _projections(arguments)]
    return [Shape(n, k, batch) for n, k in dict.fromkeys(sizes) for batch in arguments.batch]


def wanted_experts(arguments: argparse.Namespace) -> list[ExpertShape]:
    """Every grouped GEMV that was asked for, once; none for a model without experts.

    Raises BadInput as `wanted_shapes` does, and for a token that takes more experts than there are.
    """
    if arguments.model is None:
        return [expert_shape(arguments, batch) for batch in arguments.batch]
    found = [
        ExpertShape(p.n, p.k, p.held, p.read, batch)
        for p in _projections(arguments)
        if is_routed(p)
        for batch in arguments.batch
    ]
    return list(dict.fromkeys(found))


def is_routed(projection: Projection) -> bool:
    """Whether a token reads some of a layer's matrices of this shape and not others: a grouped GEMV's."""
    return projection.read < projection.held


def _projections(arguments: argparse.Namespace) -> Iterator[Projection]:
    chosen = models() if arguments.model == EVERY_MODEL else (find_model(arguments.model),)
    for model in chosen:
        for ranks in arguments.tp or RANKS:
            yield from projections(model, ranks)
