"""What Triton's autotuner is given is what the kernels' own code makes of a tuned configuration."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sparks import spark, tuned

from roofprobe.errors import BadInput, CannotMeasure
from roofprobe.triton_export import triton_configs


def test_triton_takes_the_configurations_and_runs_its_kernel_with_them() -> None:
    """Needs Triton; its autotuner runs over two exported configurations, in the interpreter where there is no GPU."""
    import torch
    import triton

    from roofprobe.kernels import gemv_kernel, gemv_triton

    small = {"n": 96, "k": 256, "format": "bf16"}
    bits = {"row_groups": 1, "tile_bytes": 128, "stages": 1, "decode": "bits"}
    profile = spark(tuned=(tuned(**small, config={"warps": 1, **bits}), tuned(**small, config={"warps": 2, **bits})))
    entries = json.loads(json.dumps(triton_configs(profile)))["entries"]
    configs = [triton.Config(**entry["config"]) for entry in entries]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    weight, x = (torch.randn(rows, 256, device=device).to(torch.bfloat16) for rows in (96, 1))
    tensors, options = gemv_triton.operands(weight, x, 1, torch.bfloat16, gemv_triton.GemvConfig(warps=1, **bits))  # type: ignore[arg-type]
    own = {name: value for name, value in options.items() if name not in configs[0].kwargs}
    out = torch.empty(1, 96, dtype=torch.bfloat16, device=device)
    timed: list[int] = []

    def bench(call: Any, **_: Any) -> list[float]:
        call()
        timed.append(1)
        return [1.0] * 3

    kernel = triton.autotune(configs=configs, key=["n"], do_bench=bench)(gemv_kernel.gemv_kernel)
    grid = lambda meta: (triton.cdiv(96, meta["GROUPS"] * meta["LANE_ROWS"]),)  # noqa: E731
    kernel[grid](*tensors, out, 96, tensors[0].shape[1] // options["ALIGN"], **own, enable_fp_fusion=False)
    assert len(timed) == 2
    torch.testing.assert_close(out, x @ weight.T, rtol=2e-2, atol=2e-2)


CONFIGS = [
    {"warps": 4, "row_groups": 4, "tile_bytes": 128, "stages": 1, "decode": "bits"},
    {"warps": 8, "row_groups": 2, "tile_bytes": 512, "stages": 2, "decode": "fhfma"},
    {"warps": 8, "row_groups": 8, "tile_bytes": 512, "stages": 1, "decode": "mma"},
]


@pytest.mark.parametrize("weight_format", ["bf16", "fp8", "nvfp4", "mxfp4"])
@pytest.mark.parametrize("k", [8192, 2880, 66], ids=["whole tiles", "part of a tile", "2-byte words of fp8"])
def test_gemvs_arguments_are_all_that_a_configuration_decides(weight_format: str, k: int) -> None:
    """Needs Triton: the kernels' own `constants` are the reference."""
    import torch

    from roofprobe.kernels import gemv_kernel, gemv_mma, gemv_triton

    if k % 16 and weight_format in ("nvfp4", "mxfp4"):
        k = 48  # an odd number of NVFP4's blocks
    for fields in CONFIGS:
        if fields["decode"] == "mma" and (weight_format not in gemv_triton.BLOCK_FORMATS or k % 32):
            continue
        entry = triton_configs(spark(tuned=(tuned(format=weight_format, k=k, batch=2, config=fields),)))["entries"][0]
        config = gemv_triton.GemvConfig(**fields)  # type: ignore[arg-type]
        every = [
            gemv_triton.constants(weight_format, k, 2, torch.bfloat16, torch.bfloat16, gemv_triton.GemvConfig(**c))  # type: ignore[arg-type]
            for c in CONFIGS
        ]
        own = gemv_triton.constants(weight_format, k, 2, torch.bfloat16, torch.bfloat16, config)
        decided = {name for other in every for name in own.keys() & other.keys() if own[name] != other[name]}
        kwargs = entry["config"]["kwargs"]
        assert kwargs == {name: own[name] for name in kwargs}
        assert decided <= kwargs.keys()
        kernel: Any = gemv_mma.gemv_mma_kernel if fields["decode"] == "mma" else gemv_kernel.gemv_kernel
        assert entry["kernel"] == kernel.fn.__name__ and kwargs.keys() <= set(kernel.arg_names)
        assert entry["config"]["num_warps"] == config.warps


def test_the_other_kernels_arguments_follow_theirs() -> None:
    """Needs Triton, as above."""
    import torch
    import triton

    from roofprobe.kernels import dequant_triton, stream_triton
    from roofprobe.kernels.grouped_gemv_triton import grouped_gemv_kernel

    dequant = {"warps": 2, "words": 8, "decode": "bits"}
    entries = triton_configs(
        spark(
            tuned=(
                *(tuned("dequant", format=f, config=dequant) for f in ("fp8", "mxfp4")),
                tuned("read", k=None, config={"warps": 2, "accesses": 8, "programs_per_multiprocessor": 16}),
                tuned("copy", k=None, config={"warps": 2, "accesses": 8, "programs_per_multiprocessor": 8}),
                tuned("grouped_gemv", experts=128, top_k=4, batch=16),
            )
        )
    )["entries"]
    fp8, mxfp4, read, copy, grouped = entries
    for entry, name in ((fp8, "fp8"), (mxfp4, "mxfp4")):
        own = dequant_triton.constants(name, 8192, torch.bfloat16, dequant_triton.DequantConfig(2, 8, "bits"))
        assert entry["config"]["kwargs"] == {key: own[key] for key in ("MODE", "WORDS", "TILE")}
    block = stream_triton.StreamConfig(2, 8).block
    assert read["config"]["kwargs"] == copy["config"]["kwargs"] == {"BLOCK": block}
    assert read["grid"] == "min(cdiv(n, BLOCK), 16 * multiprocessors)"
    assert grouped["config"]["kwargs"].keys() <= set(grouped_gemv_kernel.arg_names)
    assert grouped["config"]["maxnreg"] == 128 and "maxnreg" not in read["config"]
    kernels: list[Any] = [dequant_triton.dequantize_kernel] * 2 + [
        stream_triton.read_kernel,
        stream_triton.transfer_kernel,
    ]
    assert [e["kernel"] for e in entries[:4]] == [kernel.fn.__name__ for kernel in kernels]
    assert all(e["config"]["num_stages"] == triton.Config({}).num_stages for e in entries)


def test_a_default_that_was_not_clearly_beaten_is_exported_as_the_default() -> None:
    (entry,) = triton_configs(spark(tuned=(tuned(keep_default=True, interval=(0.99, 1.2)),)))["entries"]
    assert entry["is_default"] and entry["config"]["num_warps"] == 4 and entry["config"]["kwargs"]["TILE"] == 32
    assert entry["reason"] == "keep the default: 1.100x the default [0.990, 1.200], best of 84 does not clear 1.010"


def test_nothing_tuned_on_a_gpu_is_nothing_to_export() -> None:
    with pytest.raises(CannotMeasure, match=r"no GPU kernel was tuned \(1 entries are the host's\)"):
        triton_configs(spark(tuned=(tuned(side="host", backend="host"),)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config": {"warps": 4}}, "row_groups: expected a whole number above 0, got None"),
        ({"config": {**CONFIGS[0], "warps": "4; import os"}}, "warps: expected a whole number"),
        ({"config": {**CONFIGS[0], "tile_bytes": 1}}, "tile_bytes: expected a power of two from 32 to 2048, got 1"),
        ({"config": {**CONFIGS[0], "decode": None}}, "decode: expected a mode, got None"),
        ({"k": None}, "k: expected a whole number above 0, got null"),
        ({"format": "int2"}, "format: expected bf16, fp8"),
    ],
)
def test_a_configuration_that_is_none_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        triton_configs(spark(tuned=(tuned(**changes),)))
