"""The catalogue's shapes add up to the published sizes, and split over ranks as tensor parallelism splits them."""

from pathlib import Path

import pytest

from roofprobe.errors import BadInput
from roofprobe.models import MODEL_FOLDER, Model, find_model, load_model, models, projections

BILLION = 1e9


def shapes(name: str, tp: int) -> dict[str, tuple[int, int]]:
    return {p.name: (p.n, p.k) for p in projections(find_model(name), tp)}


@pytest.mark.parametrize("model", models(), ids=lambda model: model.name)
def test_shapes_add_up_to_the_published_parameters(model: Model) -> None:
    assert model.published is not None
    assert model.total_params / BILLION == pytest.approx(model.published.total_params_billion, rel=5e-3)


@pytest.mark.parametrize(
    ("name", "billion"),
    [
        ("gpt-oss-120b", 5.131),  # 0.956 attention, 3.583 experts, 0.013 router, 0.579 lm_head
        ("llama-3.1-70b", 69.502),  # 12.080 attention, 56.371 feed-forward, 1.051 lm_head
    ],
)
def test_what_a_token_reads(name: str, billion: float) -> None:
    read = sum(p.n * p.k * p.read * p.layers for p in projections(find_model(name)))
    assert read / BILLION == pytest.approx(billion, abs=5e-4)


@pytest.mark.parametrize("model", models(), ids=lambda model: model.name)
@pytest.mark.parametrize("tp", [2, 4])
def test_ranks_hold_the_whole_model_between_them(model: Model, tp: int) -> None:
    whole = {p.name: p.n * p.k for p in projections(model)}
    replicated = {"router", "q_a", "kv_a"}
    for p in projections(model, tp):
        between_them = p.n * p.k * tp
        kv_twice = p.name == "qkv" and model.attention is not None and model.attention.kv_heads < tp
        if p.name in replicated or kv_twice:
            assert between_them > whole[p.name]
        else:
            assert between_them == whole[p.name], p.name


def test_llama_by_hand() -> None:
    assert shapes("llama-3.1-70b", 4) == {
        "qkv": ((64 + 2 * 8) * 128 // 4, 8192),
        "o": (8192, 8192 // 4),
        "gate_up": (2 * 28672 // 4, 8192),
        "down": (8192, 28672 // 4),
        "lm_head": (128256 // 4, 8192),
    }


def test_few_key_value_heads_are_held_twice() -> None:
    """Qwen3.5 has two: of four ranks each holds 8 query heads with their gates and one key and one value head."""
    assert shapes("qwen3.5-397b-a17b", 4)["qkv"] == ((8 * 2 + 2) * 256, 4096)


def test_experts_say_how_many_are_held_and_read() -> None:
    experts = next(p for p in projections(find_model("deepseek-v3")) if p.name == "expert_down")
    assert (experts.n, experts.k, experts.layers, experts.held, experts.read) == (7168, 2048, 58, 256, 8)


def test_a_split_that_does_not_divide_is_named() -> None:
    with pytest.raises(BadInput, match=r"llama-3\.1-70b: 8 key/value heads can't be split over 3 ranks"):
        projections(find_model("llama-3.1-70b"), 3)


@pytest.mark.parametrize(
    ("name", "said"), [("llama-3-70b", "did you mean 'llama-3.1-70b'"), ("nothing at all", "there are deepseek-v3")]
)
def test_an_unknown_model_gets_advice(name: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        find_model(name)


def test_every_file_is_named_after_its_model_and_names_its_sources() -> None:
    files = sorted(MODEL_FOLDER.glob("*.toml"))
    assert [path.stem for path in files] == [model.name for model in models()]
    for path in files:
        sections = path.read_text().split("\n[")[1:]
        assert sections and all("\nsource = " in section for section in sections), path.name


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("layers = 80", 'layers = "eighty"', r"Expected `int`.*\$\.architecture\.layers"),
        ("hidden = 8192", "hidden = 0", r"`int` >= 1.*\$\.architecture\.hidden"),
        ("kv_heads = 8\n", "", "kv_heads"),
        ("heads = 64", "heads = 64\nwidth = 3", "width"),
        ("[dense]", "[dense", "llama"),
    ],
    ids=["a word", "zero", "missing", "unknown", "not TOML"],
)
def test_a_malformed_file_is_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    text = (MODEL_FOLDER / "llama-3.1-70b.toml").read_text()
    assert old in text
    path = tmp_path / "llama.toml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(BadInput, match=said) as caught:
        load_model(path)
    assert str(path) in str(caught.value)
