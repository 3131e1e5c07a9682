"""Every decode mode that is written in PTX gives the oracles' answers.

Its compiled PTX is run instruction by instruction in numpy (`ptx_machine.py`): the interpreter knows no PTX, and there
may be no GPU.
"""

from numerics import (
    any_e8m0,
    any_fp8,
    any_scales,
    check_block_probes,
    check_dequantize,
    check_e8m0_probes,
    check_exact_gemv,
    check_random_gemv,
    every_code_and_e8m0,
    every_code_and_scale,
    every_fp8,
    exact_bf16,
    exact_fp8,
    exact_mxfp4,
    exact_nvfp4,
    in_swizzled_layout,
    whole_vectors,
)
from ptx_kernel import Compiler, PtxKernel
import pytest
import torch
import triton

from roofprobe.kernels import dequant_triton, gemv_triton
from roofprobe.kernels.dequant_triton import DequantConfig
from roofprobe.kernels.formats import random_nvfp4
from roofprobe.kernels.gemv_triton import GemvConfig

NEWEST = pytest.mark.skipif(triton.__version__ < "3.9", reason="its compiler can't convert E2M1 to bfloat16")
MODES = [
    pytest.param((90, "e4m3"), id="e4m3 on 90"),
    pytest.param((121, "cvt"), id="cvt on 121"),
    pytest.param((121, "fhfma"), id="fhfma on 121", marks=NEWEST),
]
EXACT = {"bf16": exact_bf16, "fp8": exact_fp8, "nvfp4": exact_nvfp4, "mxfp4": exact_mxfp4}


def gemv_config(mode: str) -> GemvConfig:
    """One row a lane and two warps: little PTX."""
    return GemvConfig(warps=2, row_groups=1, tile_bytes=128, decode=mode)


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, ptx_compiler: Compiler) -> str:
    """A mode, and the kernels on a GPU that has it."""
    cc, name = request.param
    monkeypatch.setattr(gemv_triton, "gemv_kernel", PtxKernel(gemv_triton.gemv_kernel, cc, ptx_compiler))
    monkeypatch.setattr(
        dequant_triton, "dequantize_kernel", PtxKernel(dequant_triton.dequantize_kernel, cc, ptx_compiler)
    )
    return str(name)


def test_every_code_and_scale_byte_dequantizes_exactly(mode: str) -> None:
    config = DequantConfig(warps=1, words=2, decode=mode)
    check_dequantize(every_code_and_scale(0.0123, "divide"), torch.bfloat16, "triton", config)
    check_dequantize(in_swizzled_layout(any_scales(130, 48, 3)), torch.float32, "triton", config)
    check_dequantize(every_code_and_e8m0(), torch.bfloat16, "triton", config)
    check_dequantize(in_swizzled_layout(any_e8m0(130, 96, 3)), torch.float16, "triton", config)
    check_dequantize(every_fp8([0.3, 1.7, 1e-40]), torch.bfloat16, "triton", config)
    check_dequantize(any_fp8(3, 33, 4, per_row=False), torch.float16, "triton", config)


def test_scales_come_from_their_own_blocks(mode: str) -> None:
    check_block_probes("triton", gemv_config(mode))
    check_e8m0_probes("triton", gemv_config(mode), "swizzled")


@pytest.mark.parametrize("weight_format", EXACT)
def test_exact_sums_are_exact(mode: str, weight_format: str) -> None:
    """288 weights are whole tiles and a piece; x in pairs and, where that is other code, as float32."""
    for dtype in (torch.bfloat16, torch.float32)[: 2 if weight_format == "nvfp4" else 1]:
        check_exact_gemv(EXACT[weight_format](18, 288, 1), whole_vectors(2, 288, 2, dtype), "triton", gemv_config(mode))


def test_random_sums_are_within_the_bound(mode: str) -> None:
    x = torch.randn(1, 4128, generator=torch.Generator().manual_seed(1)).to(torch.float16)
    check_random_gemv(random_nvfp4(16, 4128, 1, "cpu"), x, "triton", torch.float16, gemv_config(mode))
