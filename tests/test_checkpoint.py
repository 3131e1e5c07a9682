"""Checkpoints: every layout is read to the right values, and weights go by the names that people give them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from checkpoints import (
    K,
    N,
    Tensors,
    bf16,
    compressed_mxfp4,
    compressed_nvfp4,
    fp8,
    gpt_oss,
    modelopt_nvfp4,
    raw,
    saved,
)
import numpy as np
import oracles
import pytest
import torch

from roofprobe.kernels.checkpoint import load, read_checkpoint
from roofprobe.kernels.dequant import dequantize


def e2m1(packed: torch.Tensor) -> Any:
    return oracles.e2m1_by_arithmetic(oracles.codes_by_k(packed.numpy()))


def expected_values(kind: str, tensors: Tensors, expert: int = 0) -> Any:
    """The weight in float32 by arithmetic that shares nothing with the package."""
    parts = {name.rpartition(".")[2]: tensor for name, tensor in tensors.items()}
    if kind == "bf16":
        return parts["weight"].float().numpy()
    if kind.startswith("fp8"):
        return (parts["weight"].float() * parts["weight_scale"].float()).numpy()
    if kind == "gpt-oss":
        blocks, scales = parts["gate_up_proj_blocks"][expert], parts["gate_up_proj_scales"][expert]
        return e2m1(blocks.reshape(N, K // 2)) * np.repeat(np.exp2(scales.numpy() - 127.0), 32, axis=1)
    packed, scales = parts.get("weight_packed", parts.get("weight")), parts["weight_scale"]
    assert packed is not None
    if kind == "mxfp4":
        return e2m1(packed) * np.repeat(np.exp2(scales.numpy() - 127.0), 32, axis=1)
    products = e2m1(packed) * np.repeat(scales.float().numpy(), 16, axis=1)
    if kind == "modelopt":
        return products * parts["weight_scale_2"].numpy()
    return products / parts["weight_global_scale"].numpy()


LAYOUTS: dict[str, tuple[Tensors, str]] = {
    "modelopt": (modelopt_nvfp4(), "nvfp4"),
    "compressed-tensors": (compressed_nvfp4(), "nvfp4"),
    "mxfp4": (compressed_mxfp4(), "mxfp4"),
    "gpt-oss": (gpt_oss(), "mxfp4"),
    "fp8": (fp8(), "fp8"),
    "fp8 per row": (fp8(per_row=True), "fp8"),
    "bf16": (bf16(), "bf16"),
}


@pytest.mark.parametrize("kind", LAYOUTS)
@pytest.mark.parametrize("rows", [None, 4], ids=["whole", "four rows"])
def test_every_layout_gives_its_values(kind: str, rows: int | None, tmp_path: Path) -> None:
    tensors, weight_format = LAYOUTS[kind]
    checkpoint = read_checkpoint(saved(tmp_path / "x.safetensors", tensors, {"norm.weight": torch.ones(K).bfloat16()}))
    assert checkpoint.problems == {}
    (stored,) = checkpoint.weights
    assert (stored.format, stored.shape) == (weight_format, (N, K))
    for expert in range(stored.experts or 1):
        weight = load(checkpoint, stored, rows=rows, expert=expert)
        values = weight if isinstance(weight, torch.Tensor) else dequantize(weight, torch.float32, backend="torch")
        expected = torch.from_numpy(expected_values(kind, tensors, expert).astype(np.float32))
        assert torch.equal(values.float(), expected[:rows])


def test_fp4_codes_and_e8m0_scales_under_their_own_types(tmp_path: Path) -> None:
    plain = compressed_mxfp4()
    typed = {
        "x.weight_packed": plain["x.weight_packed"].view(torch.float4_e2m1fn_x2),
        "x.weight_scale": plain["x.weight_scale"].view(torch.float8_e8m0fnu),
    }
    header = {
        "x.weight_packed": {"dtype": "F4", "shape": [N, K], "data_offsets": [0, N * K // 2]},
        "x.weight_scale": {"dtype": "F8_E8M0", "shape": [N, K // 32], "data_offsets": [N * K // 2, N * K // 2 + N * 3]},
    }
    data = b"".join(tensor.view(torch.uint8).numpy().tobytes() for tensor in typed.values())
    checkpoint = read_checkpoint(raw(tmp_path / "x.safetensors", header, data))
    weight = load(checkpoint, checkpoint.weights[0])
    assert checkpoint.weights[0].shape == (N, K)
    assert torch.equal(weight.codes, plain["x.weight_packed"])  # type: ignore[union-attr]


def test_what_is_loaded_is_aligned_and_no_view_of_the_file(tmp_path: Path) -> None:
    odd = {"a": torch.zeros(3, dtype=torch.uint8)}  # so that what follows lies at odd addresses
    path = saved(tmp_path / "x.safetensors", odd, modelopt_nvfp4())
    checkpoint = read_checkpoint(path)
    weight = load(checkpoint, checkpoint.weights[0])
    before = weight.codes.clone()  # type: ignore[union-attr]
    path.write_bytes(b"\0" * path.stat().st_size)
    assert torch.equal(weight.codes, before)  # type: ignore[union-attr]
    assert weight.codes.data_ptr() % 16 == 0 and weight.block_scales.data_ptr() % 16 == 0  # type: ignore[union-attr]


def test_only_what_the_kernels_read_is_found_and_the_largest_comes_first(tmp_path: Path) -> None:
    others = {
        "a.weight": torch.zeros(N, K),  # float32
        "b.bias": torch.zeros(N).bfloat16(),
        "c.running": torch.zeros(2, dtype=torch.int64),
        "d.conv.weight": torch.zeros(2, 2, 2).bfloat16(),
        "kv.k_scale": torch.tensor(1.0),
    }
    path = saved(tmp_path / "x.safetensors", others, bf16("small.", k=32), bf16("large.", n=64), modelopt_nvfp4())
    checkpoint = read_checkpoint(path)
    assert [w.name for w in checkpoint.weights] == ["large.weight", "m.weight", "small.weight"]
    assert checkpoint.problems == {}


@pytest.mark.parametrize("name", ["m", "m.weight", "m.weight_scale", "m.weight_scale_2"])
def test_a_weight_goes_by_its_module_and_by_its_tensors(name: str, tmp_path: Path) -> None:
    checkpoint = read_checkpoint(saved(tmp_path / "x.safetensors", modelopt_nvfp4(), bf16()))
    assert checkpoint.find(name).name == "m.weight"


def test_an_unknown_name_meets_the_closest(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(saved(tmp_path / "x.safetensors", modelopt_nvfp4("model.layers.0.up_proj.")))
    with pytest.raises(ValueError, match=r"no weight 'layers.0.up' .* closest is 'model.layers.0.up_proj.weight'"):
        checkpoint.find("layers.0.up")


def test_an_expert_that_is_not_there(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(saved(tmp_path / "x.safetensors", gpt_oss()))
    with pytest.raises(ValueError, match="expected an expert from 0 to 2, got 3"):
        load(checkpoint, checkpoint.weights[0], expert=3)
