"""Weights that are not whole: each is named with what was expected and found, and the others still load."""

from __future__ import annotations

from pathlib import Path

from checkpoints import (
    K,
    N,
    Tensors,
    bf16,
    changed,
    compressed_mxfp4,
    compressed_nvfp4,
    e4m3,
    fp8,
    gpt_oss,
    modelopt_nvfp4,
    random_bytes,
    saved,
)
import pytest
import torch

from roofprobe.kernels.checkpoint import read_checkpoint

MALFORMED: dict[str, tuple[Tensors, str]] = {
    "codes of another type": (
        changed(modelopt_nvfp4(), weight=random_bytes(N, K // 2).view(torch.int8)),
        r"'m.weight': expected U8 or F4, got I8",
    ),
    "packed codes of another type": (
        changed(compressed_nvfp4(), weight_packed=torch.zeros(N, K // 8, dtype=torch.int32)),
        r"'c.weight_packed': expected U8 or F4, got I32",
    ),
    "K not a multiple of the block": (
        changed(modelopt_nvfp4(), weight=random_bytes(N, 20)),
        r"'m.weight': expected K a multiple of the block of 16, got K = 40",
    ),
    "K not a multiple of MXFP4's block": (
        changed(compressed_mxfp4(), weight_packed=random_bytes(N, 24)),
        r"'x.weight_packed': expected K a multiple of the block of 32, got K = 48",
    ),
    "scales of another type": (
        changed(modelopt_nvfp4(), weight_scale=torch.zeros(N, K // 16)),
        r"'m.weight_scale': expected F8_E4M3 or U8 or F8_E8M0, got F32",
    ),
    "scales of another shape": (
        changed(modelopt_nvfp4(), weight_scale=e4m3(N, K // 16 - 1)),
        r"'m.weight_scale': expected shape \[6, 6\], got \[6, 5\]",
    ),
    "transposed scales": (
        changed(compressed_mxfp4(), weight_scale=random_bytes(K // 32, N)),
        r"'x.weight_scale': expected shape \[6, 3\], got \[3, 6\]",
    ),
    "no scales": (
        changed(modelopt_nvfp4(), weight_scale=None),
        r"'m.weight_scale': expected F8_E4M3 or U8 or F8_E8M0 beside 'm.weight', got no such tensor",
    ),
    "no global scale": (
        changed(compressed_nvfp4(), weight_global_scale=None),
        r"'c.weight_global_scale': expected F32 beside 'c.weight_packed', got no such tensor",
    ),
    "several global scales": (
        changed(modelopt_nvfp4(), weight_scale_2=torch.ones(2)),
        r"'m.weight_scale_2': expected shape \[\] or \[1\], got \[2\]",
    ),
    "a global scale of another type": (
        changed(modelopt_nvfp4(), weight_scale_2=torch.tensor(1.0).bfloat16()),
        r"'m.weight_scale_2': expected F32, got BF16",
    ),
    "E8M0 scales beside a global scale": (
        changed(compressed_nvfp4(), weight_scale=random_bytes(N, K // 32)),
        r"'c.weight_scale': expected F8_E4M3 beside 'c.weight_global_scale', got U8",
    ),
    "codes that are no matrix": (
        changed(modelopt_nvfp4(), weight=random_bytes(N * K // 2)),
        r"'m.weight': expected shape \[N, K/2\] without zeros, got \[288\]",
    ),
    "an empty matrix": (
        changed(bf16(), weight=torch.zeros(0, K).bfloat16()),
        r"'b.weight': expected shape \[N, K\] without zeros, got \[0, 96\]",
    ),
    "FP8 without its scale": (
        changed(fp8(), weight_scale=None),
        r"'f.weight_scale': expected F32 or BF16 or F16 beside 'f.weight', got no such tensor",
    ),
    "FP8 with a scale a column": (
        changed(fp8(), weight_scale=torch.ones(K)),
        r"'f.weight_scale': expected shape \[\] or \[1\] or \[6\] or \[6, 1\] or \[1, 1\], got \[96\]",
    ),
    "FP8 with scales of blocks": (
        changed(fp8(), weight_scale=None) | {"f.weight_scale_inv": torch.ones(1, 1)},
        r"'f.weight': expected a scale for the tensor or for each row, got scales of blocks \('f.weight_scale_inv'\)",
    ),
    "a scaled weight of another type": (
        changed(fp8(), weight=torch.zeros(N, K, dtype=torch.int8)),
        r"'f.weight': expected U8 \(FP4\) or F8_E4M3 \(FP8\) beside 'f.weight_scale', got I8",
    ),
    "gpt-oss blocks of another shape": (
        changed(gpt_oss(), gate_up_proj_blocks=random_bytes(3, N, K // 2)),
        r"'e.gate_up_proj_blocks': expected shape \[E, N, K/32, 16\], got \[3, 6, 48\]",
    ),
    "gpt-oss without scales": (
        changed(gpt_oss(), gate_up_proj_scales=None),
        r"'e.gate_up_proj_scales': expected U8 or F8_E8M0 beside 'e.gate_up_proj_blocks', got no such tensor",
    ),
    "gpt-oss scales of other experts": (
        changed(gpt_oss(), gate_up_proj_scales=random_bytes(2, N, K // 32)),
        r"'e.gate_up_proj_scales': expected shape \[3, 6, 3\], got \[2, 6, 3\]",
    ),
    "gpt-oss blocks of another type": (
        changed(gpt_oss(), gate_up_proj_blocks=torch.zeros(3, N, K // 32, 16, dtype=torch.int16)),
        r"'e.gate_up_proj_blocks': expected U8, got I16",
    ),
}


@pytest.mark.parametrize(("tensors", "message"), MALFORMED.values(), ids=MALFORMED)
def test_a_weight_that_is_not_whole_is_named(tensors: Tensors, message: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "x.safetensors", tensors, bf16("good.", n=2))
    checkpoint = read_checkpoint(path)
    assert [w.name for w in checkpoint.weights] == ["good.weight"], "and the others are still there"
    (name,) = checkpoint.problems
    with pytest.raises(ValueError, match=message) as caught:
        checkpoint.find(name)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
