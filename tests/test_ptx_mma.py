"""The GEMV on tensor cores gives the oracles' answers: its compiled PTX, run in numpy (`ptx_machine.py`).

A tensor core may sum in any way between two: exactly with one rounding, and with every addend cut off 24 bits below the
largest. Both have to be within the bounds.
"""

from collections.abc import Iterator
import os
from pathlib import Path
import subprocess
import sys

from numerics import (
    DEVICE,
    check_e8m0_probes,
    check_exact_gemv,
    check_random_gemv,
    exact_mxfp4,
    exact_nvfp4,
    in_swizzled_layout,
    make_nvfp4,
    run_gemv,
    whole_vectors,
)
from ptx_kernel import Compiler, PtxKernel
from ptx_opcodes import TENSOR_CORE_SUMS
import pytest
import torch

from roofprobe.kernels import gemv_triton
from roofprobe.kernels.formats import random_mxfp4, random_nvfp4
from roofprobe.kernels.gemv_triton import GemvConfig, default_config, gemv_mode, usable
from roofprobe.kernels.search import gemv_space

CONFIG = GemvConfig(warps=2, row_groups=2, tile_bytes=128, decode="mma")
SIXTEEN_BITS = (torch.bfloat16, torch.float16)
EXACT = {"nvfp4": exact_nvfp4, "mxfp4": exact_mxfp4}


@pytest.fixture(params=[(90, "truncated"), (121, "rounded")], ids=str)
def kernel(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, ptx_compiler: Compiler
) -> Iterator[PtxKernel]:
    """On a compute capability, with one way to sum; every test has to have launched it."""
    cc, sums = request.param
    stand_in = PtxKernel(gemv_triton.gemv_mma_kernel, cc, ptx_compiler, TENSOR_CORE_SUMS[sums])
    monkeypatch.setattr(gemv_triton, "gemv_mma_kernel", stand_in)
    yield stand_in
    assert stand_in.launches


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("weight_format", EXACT)
@pytest.mark.parametrize("dtype", SIXTEEN_BITS, ids=str)
def test_exact_sums_are_exact(weight_format: str, dtype: torch.dtype) -> None:
    """All codes at all places of a chunk; rows and K that end within a tile; pairs of vectors and one left over."""
    weight = EXACT[weight_format](18, 288, 1)
    check_exact_gemv(weight, whole_vectors(3, 288, 2, dtype), "triton", CONFIG)
    check_exact_gemv(in_swizzled_layout(weight), whole_vectors(1, 288, 3, dtype), "triton", CONFIG)


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("layout", ["linear", "swizzled"])
def test_scales_come_from_their_own_blocks(layout: str) -> None:
    """x meets one block of six; row r's scale there is byte r, NaN, zero and subnormal ones among them."""
    base = random_nvfp4(256, 96, 9, "cpu")
    for block in range(6):
        scales = base.block_scale_bytes.clone()
        scales[:, block] = torch.arange(256, dtype=torch.uint8)
        weight = make_nvfp4(base.codes, scales.view(torch.float8_e4m3fn), 0.25)
        x = torch.zeros(1, 96, dtype=torch.bfloat16)
        x[:, 16 * block : 16 * block + 16] = torch.arange(-7, 9)
        check_exact_gemv(in_swizzled_layout(weight) if layout == "swizzled" else weight, x, "triton", CONFIG)
    check_e8m0_probes("triton", CONFIG, layout)


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize(
    ("dtype", "k", "config"),
    [
        pytest.param(torch.bfloat16, 32, CONFIG, id="one chunk"),
        pytest.param(torch.float16, 4128, CONFIG, id="many tiles and a piece"),
        pytest.param(torch.bfloat16, 2080, default_config(64, 1, 1, "mma"), id="the default's sizes"),
    ],
)
def test_random_sums_are_within_the_bound(dtype: torch.dtype, k: int, config: GemvConfig) -> None:
    x = torch.randn(2, k, generator=torch.Generator().manual_seed(k)).to(dtype)
    for weight in (random_nvfp4(18, k, 1, "cpu"), random_mxfp4(18, k, 1, "cpu")):
        check_random_gemv(weight, x, "triton", torch.float32, config)


@pytest.mark.usefixtures("kernel")
def test_far_bfloat16_activations_are_exact() -> None:
    """The ends of the range that `gemv_mma.py` states; beyond it a result is infinite, not a wrong number."""
    weight = exact_nvfp4(18, 96, 1)
    for exponent in (-79, -64, 63):
        x = torch.zeros(1, 96, dtype=torch.bfloat16)
        x[0, 37] = -1.9921875 * 2.0**exponent
        check_exact_gemv(weight, x, "triton", CONFIG)
    x[0, 37] = 2.0**64
    assert not run_gemv(weight, x, "triton", torch.float32, CONFIG).isfinite().any()


def test_other_operands_take_the_gpus_decode_mode() -> None:
    assert gemv_mode("nvfp4", 4096, torch.bfloat16, "e4m3") == "mma"
    assert gemv_mode("nvfp4", 4096, torch.bfloat16, "fhfma") == "fhfma"
    for operands in (
        ("nvfp4", 4112, torch.bfloat16),
        ("mxfp4", 4096, torch.float32),
        ("fp8", 4096, torch.float16),
    ):
        assert gemv_mode(*operands, mode="e4m3") == "e4m3"
        assert usable(default_config(16384, 1, 132, "mma"), *operands).decode == "e4m3"
    assert usable(CONFIG, "mxfp4", 4096, torch.float16) is CONFIG


def test_the_search_space_begins_with_tensor_cores_where_they_are_the_default() -> None:
    space = gemv_space("nvfp4", 28672, 4096, 1, 132, "e4m3")
    assert space[0] == default_config(28672, 1, 132, "mma")
    assert len(space) == len(set(space)) <= 87
    assert {config.decode for config in space} == {"mma", "e4m3", "bits"}
    grouped = gemv_space("nvfp4", 28672, 4096, 1, 132, "e4m3", grouped=True)
    assert {config.decode for config in grouped} == {"e4m3", "bits"}


@pytest.mark.gpu
@pytest.mark.parametrize("weight_format", EXACT)
@pytest.mark.parametrize("dtype", SIXTEEN_BITS, ids=str)
def test_a_gpu_gives_the_same(weight_format: str, dtype: torch.dtype) -> None:
    if torch.cuda.get_device_capability() < (8, 9):
        pytest.skip("this GPU converts no E4M3")
    check_exact_gemv(EXACT[weight_format](130, 288, 1), whole_vectors(3, 288, 2, dtype), "triton", CONFIG)
    x = torch.randn(16, 4128, generator=torch.Generator().manual_seed(1)).to(dtype)
    check_random_gemv(random_nvfp4(66, 4128, 1, DEVICE), x, "triton", dtype, default_config(66, 16, 132, "mma"))


def test_a_configuration_that_would_part_fours_of_lanes_is_refused() -> None:
    with pytest.raises(ValueError, match="tile_bytes: 'mma' expects 64 to 64"):
        GemvConfig(warps=2, tile_bytes=256, decode="mma")
    with pytest.raises(ValueError, match="row_groups: 'mma' expects at least 2, got 1"):
        GemvConfig(row_groups=1, decode="mma")


def test_a_wrong_kernel_is_seen(monkeypatch: pytest.MonkeyPatch, ptx_compiler: Compiler) -> None:
    """The machine runs what the compiler made: one bit of one mask less, and codes lose their signs."""

    def planted(job: dict[str, object]) -> str:
        ptx = ptx_compiler(job)
        assert "0x81C081C0" in ptx
        return ptx.replace("0x81C081C0", "0x81C001C0")

    stand_in = PtxKernel(gemv_triton.gemv_mma_kernel, 90, planted)
    monkeypatch.setattr(gemv_triton, "gemv_mma_kernel", stand_in)
    with pytest.raises(AssertionError, match="differ"):
        check_exact_gemv(exact_nvfp4(18, 288, 1), whole_vectors(1, 288, 2), "triton", CONFIG)


def test_its_machine_code_is_short_and_stays_in_registers(tmp_path: Path) -> None:
    """At batch 1 on cc 90: at most 5 lane-instructions a weight byte, which the audit counts, and nothing to find."""
    code = (
        "from roofprobe.kernels.audit import audit\n"
        "from roofprobe.kernels.compile_only import compile_case, gemv_case\n"
        "for name, how in (('nvfp4', ()), ('nvfp4', ('swizzled',)), ('mxfp4', ('swizzled',))):\n"
        "    row = audit(compile_case(gemv_case(name, 1, decode='mma', how=how), 90))\n"
        "    print(row.instructions_per_byte, row.spilled, *row.findings, sep=';')\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True)
    rows = [line.split(";") for line in done.stdout.split()]
    assert len(rows) == 3, done.stderr
    assert all(float(rate) <= 5.0 and spilled == "0" and not findings for rate, spilled, *findings in rows), rows
