"""What `--model` tunes: every projection of every model of the catalogue, and which of them are experts'."""

from __future__ import annotations

import argparse

import pytest

from roofprobe.arguments import parser
from roofprobe.models import models, projections
from roofprobe.probes.grouped import ExpertShape
from roofprobe.probes.tune_shapes import add_tune_shape_flags, wanted_experts, wanted_shapes
from roofprobe.probes.weights import Shape

EXPERTS = {
    "gpt-oss-120b": [
        ExpertShape(5760, 2880, 128, 4), ExpertShape(2880, 2880, 128, 4),
        ExpertShape(2880, 2880, 128, 4), ExpertShape(2880, 1440, 128, 4),
        ExpertShape(1440, 2880, 128, 4), ExpertShape(2880, 720, 128, 4),
    ],
    "qwen3-coder-30b-a3b": [
        ExpertShape(1536, 2048, 128, 8), ExpertShape(2048, 768, 128, 8),
        ExpertShape(768, 2048, 128, 8), ExpertShape(2048, 384, 128, 8),
        ExpertShape(384, 2048, 128, 8), ExpertShape(2048, 192, 128, 8),
    ],
    "deepseek-v3": [
        ExpertShape(4096, 7168, 256, 8), ExpertShape(7168, 2048, 256, 8),
        ExpertShape(2048, 7168, 256, 8), ExpertShape(7168, 1024, 256, 8),
        ExpertShape(1024, 7168, 256, 8), ExpertShape(7168, 512, 256, 8),
    ],
    "llama-3.1-70b": [],
}  # fmt: skip
"""By TP 1, 2 and 4: gate and up of all experts, then down; from the published intermediate widths."""


def flags(*given: str) -> argparse.Namespace:
    top = parser("tune", "")
    add_tune_shape_flags(top)
    return top.parse_args(given)


@pytest.mark.parametrize("name", EXPERTS)
def test_the_experts_shapes(name: str) -> None:
    assert wanted_experts(flags("--model", name)) == list(dict.fromkeys(EXPERTS[name]))


@pytest.mark.parametrize("model", models(), ids=lambda model: model.name)
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_no_projection_of_the_catalogue_is_left_out(model: object, ranks: int) -> None:
    name = model.name  # type: ignore[attr-defined]
    given = flags("--model", name, "--tp", str(ranks))
    found = projections(model, ranks)  # type: ignore[arg-type]
    assert set(wanted_shapes(given)) == {Shape(p.n, p.k) for p in found}
    routed = {p.name: p for p in found if p.name in ("expert_gate_up", "expert_down")}
    assert {(e.n, e.k) for e in wanted_experts(given)} == {(p.n, p.k) for p in routed.values()}
    has_experts = model.experts is not None  # type: ignore[attr-defined]
    assert len(routed) == (2 if has_experts else 0), "the shared experts serve every token: plain weights"


def test_all_is_every_model() -> None:
    assert set(wanted_experts(flags("--model", "all"))) == {
        expert for model in models() for expert in wanted_experts(flags("--model", model.name))
    }


def test_batches_multiply() -> None:
    given = flags("--model", "gpt-oss-20b", "--tp", "1", "--batch", "1,4")
    assert wanted_experts(given) == [ExpertShape(n, 2880, 32, 4, batch) for n in (5760, 2880) for batch in (1, 4)]


def test_without_a_model() -> None:
    assert wanted_experts(flags()) == [ExpertShape(5760, 2880, 128, 4)]
    assert wanted_experts(flags("--n", "64", "--k", "32", "--experts", "8", "--top-k", "2")) == [
        ExpertShape(64, 32, 8, 2)
    ]
