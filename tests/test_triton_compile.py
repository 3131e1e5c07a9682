"""Every Triton kernel compiles for H100-class (90) and GB10 (121) GPUs without one, and its machine code is as meant.

Compiling needs a process without TRITON_INTERPRET=1; one is shared by the module.
"""

import os
from pathlib import Path
import re
import subprocess
import sys

import pytest
import triton

from roofprobe.kernels.compile_only import Case, Compiled, faults
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


def compile_only(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "roofprobe.kernels.compile_only", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def lines() -> list[str]:
    done = compile_only("--cc", "90", "--cc", "121")
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("cc", [90, 121])
@pytest.mark.parametrize(
    ("kernel", "count"),
    [("fill", 1), ("read", 1), ("copy", 1), ("write", 1), ("triad", 1), ("dequant", 11), ("gemv", 19)],
)
def test_every_kernel_compiles_without_spills(lines: list[str], kernel: str, count: int, cc: int) -> None:
    mine = [line for line in lines if line.startswith(kernel) and f" cc {cc:3} " in line]
    assert len(mine) == count
    assert all(" 0 spilled" in line for line in mine)


@pytest.mark.parametrize(
    ("kernel", "cc", "most"),
    # instructions a lane and weight byte; with Triton 3.9 each takes a tenth less or so
    [
        ("bf16-k4096-batch1", 90, 1.7),
        ("bf16-k4096-batch1-fhfma", 121, 1.0),
        ("bf16-k4096-batch16", 121, 17),
        ("fp8-k4096-batch1-e4m3", 90, 3.6),
        ("fp8-k4096-batch1-fhfma", 121, 2.1),
        ("nvfp4-k4096-batch1", 121, 11.5),
        ("nvfp4-k4096-batch1-e4m3", 90, 9.0),
        ("nvfp4-k4096-batch1-fhfma", 121, 4.5),
        ("nvfp4-k4096-batch1-swizzled-fhfma", 121, 4.5),
        ("nvfp4-k4096-batch16-fhfma", 121, 44),
        ("mxfp4-k4096-batch1-e4m3", 90, 9.0),
        ("mxfp4-k4096-batch1-fhfma", 121, 4.5),
    ],
)
@pytest.mark.skipif(triton.__version__ < "3.9", reason="older compilers have fewer decode modes")
def test_gemv_issues_few_instructions(lines: list[str], kernel: str, cc: int, most: float) -> None:
    (line,) = (line for line in lines if line.startswith(f"gemv-{kernel} ") and f" cc {cc:3} " in line)
    found = re.search(r"([\d.]+) instructions a weight byte", line)
    assert found is not None and 0 < float(found[1]) <= most, line


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
        "from roofprobe.kernels.compile_only import compile_case, dequant_case, faults, gemv_case\n"
        "import torch\n"
        "for cc, mode in ((89, 'e4m3'), (100, 'cvt'), (120, 'cvt'), (100, 'fhfma'), (103, 'fhfma'), (120, 'fhfma')):\n"
        "    for case in (gemv_case('nvfp4', 1, decode=mode), dequant_case('mxfp4', torch.float16, decode=mode)):\n"
        "        print(faults(compile_case(case, cc)))\n"
        "print(faults(compile_case(gemv_case('fp8', 2, 4096, torch.float16, 'fhfma'), 121)))\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.split() == ["[]"] * 13, done.stdout + done.stderr


def test_the_interpreters_process_says_why_it_cannot_compile() -> None:
    command = [sys.executable, "-m", "roofprobe.kernels.compile_only", "--cc", "121"]
    done = subprocess.run(command, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert done.returncode == 1
    assert "TRITON_INTERPRET=1 leaves kernels uncompiled; unset it" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_compute_capability_that_the_compiler_does_not_know_is_refused() -> None:
    done = compile_only("--cc", "1")
    assert done.returncode == 2
    assert "--cc: invalid choice: 1" in done.stderr and "Traceback" not in done.stderr


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


def compiled(sass: str, weight_bytes: int, spilled: int = 0, ptx: str = "") -> Compiled:
    case = Case("gemv", None, {}, {}, 4, weight_bytes)
    return Compiled(case, 121, b"", ptx, sass, registers=32, spilled=spilled, shared=0)


CLEAN = LISTING.replace("STS", "FADD").replace("BAR.SYNC.DEFER_BLOCKING", "S2R")


@pytest.mark.parametrize(
    ("code", "faults_found"),
    [
        (compiled(CLEAN, 16), []),
        (compiled(LISTING, 16), ["uses STS in its hot loop"]),
        (compiled(CLEAN, 32), ["loads 16 bytes a turn in 128-bit loads, expected 32"]),
        (compiled(CLEAN, 16, spilled=8), ["spills 8 bytes"]),
        (compiled(CLEAN.replace("FADD", "STL"), 16), ["spills 0 bytes"]),
        (compiled(CLEAN, 16, ptx="mul.ftz.f32 %r1, %r2, %r3;"), ["flushes subnormals to zero"]),
        (compiled(CLEAN.replace("BRA", "NOP"), 16), ["has no loop that loads"]),
        (compiled(LISTING, 0), []),
    ],
    ids=["none", "shared memory", "narrow loads", "stack", "local memory", "subnormals", "no loop", "not a GEMV"],
)
def test_faults_are_seen(code: Compiled, faults_found: list[str]) -> None:
    assert faults(code) == faults_found
