"""Every decode mode compiles where it is said to, without a GPU; how loops are found in a disassembly."""

import os
from pathlib import Path
import subprocess
import sys

import pytest

from roofprobe.kernels.compile_only import compile_case, gemv_case
from roofprobe.kernels.decode import decode_mode
from roofprobe.kernels.sass import (
    SHARED_MEMORY,
    executed,
    global_loads,
    hot_loop,
    instructions,
    loaded_bytes,
    loops,
    uses,
)


@pytest.mark.parametrize(
    ("capability", "version", "mode"),
    [
        ((8, 0), "3.9.0", "bits"),
        ((8, 9), "3.6.0", "e4m3"),
        ((9, 0), "3.9.0", "e4m3"),
        ((12, 1), "3.7.1", "cvt"),
        ((12, 1), "3.9.0", "fhfma"),
        ((10, 0), "3.10.0+git1", "fhfma"),
    ],
)
def test_the_decode_mode_follows_gpu_and_compiler(capability: tuple[int, int], version: str, mode: str) -> None:
    assert decode_mode(capability, version) == mode


def test_every_mode_compiles_where_it_is_said_to(tmp_path: Path) -> None:
    """On the oldest and newest GPU of each kind: cvt's and fhfma's PTX differs from plain 12.1's target."""
    code = (
        "from roofprobe.kernels.audit import whole_kernel_findings\n"
        "from roofprobe.kernels.compile_only import compile_case, dequant_case, gemv_case\n"
        "from roofprobe.kernels.dequant_triton import DequantConfig\n"
        "from roofprobe.kernels.sass import SHARED_MEMORY, hot_loop, instructions, uses\n"
        "import torch\n"
        "def found(case, cc):\n"
        "    done = compile_case(case, cc)\n"
        "    used = uses(hot_loop(done.sass), SHARED_MEMORY)\n"
        "    print(whole_kernel_findings(done, instructions(done.sass)[0]) + used)\n"
        "for cc, mode in ((89, 'e4m3'), (100, 'cvt'), (120, 'cvt'), (100, 'fhfma'), (103, 'fhfma'), (120, 'fhfma')):\n"
        "    found(gemv_case('nvfp4', 1, decode=mode), cc)\n"
        "    found(dequant_case('mxfp4', torch.float16, config=DequantConfig(decode=mode)), cc)\n"
        "found(gemv_case('fp8', 2, 4096, torch.float16, 'fhfma'), 121)\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.split() == ["[]"] * 13, done.stdout + done.stderr


def test_the_interpreters_process_says_why_it_cannot_compile() -> None:
    with pytest.raises(RuntimeError, match="TRITON_INTERPRET=1 leaves kernels uncompiled; unset it"):
        compile_case(gemv_case("bf16", 1), 121)


LISTING = """
.text.kernel:
        /*0000*/                   MOV R1, c[0x0][0x28] ;
        /*0010*/                   BAR.SYNC.DEFER_BLOCKING 0x0 ;
.L_x_1:
        /*0020*/                   LDG.E R2, desc[UR4][R6.64] ;
.L_x_0:
        /*0030*/                   LDG.E.128 R8, desc[UR4][R6.64] ;
        /*0040*/              @!P1 LDG.E.U16 R3, desc[UR4][R4.64] ;
        /*0050*/               @P2 BRA `(.L_x_2) ;
        /*0060*/                   NOP ;
        /*0070*/              @!P0 BRA `(.L_x_0) ;
.L_x_2:
        /*0080*/                   STS [R2], R3 ;
        /*0090*/               @P3 BRA.U `(.L_x_1) ;
        /*00a0*/                   EXIT ;
.L_x_3:
        /*00b0*/                   BRA `(.L_x_3);
        /*00c0*/                   NOP;
"""


def test_loops_are_found_by_their_backward_branches() -> None:
    inner, outer = loops(LISTING)
    assert [i.address for i in inner] == [0x30, 0x40, 0x50, 0x60, 0x70]
    assert [i.address for i in outer] == list(range(0x20, 0xA0, 0x10))
    assert len(instructions(LISTING)[0]) == 13
    assert global_loads(inner) == {128: 1, 16: 1}
    assert loaded_bytes(inner) == 18
    assert executed(inner) == 4


def test_the_hot_loop_loads_the_most_and_shows_shared_memory() -> None:
    hot = hot_loop(LISTING)
    assert loaded_bytes(hot) == 22
    assert uses(hot, SHARED_MEMORY) == ["STS"]
    assert hot_loop(LISTING.replace("LDG", "LDC")) == []
