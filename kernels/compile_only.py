"""Compiles every Triton kernel for a GPU that need not be there, disassembles it, and says what came out.

    python -m roofprobe.kernels.compile_only --cc 90 --cc 121

One line a kernel: registers, spilled bytes, shared bytes, the hot loop's global loads by width and, for GEMV, its
instructions a byte of weight and lane. Status 1 if a kernel does not compile, has an empty disassembly, spills or
flushes subnormals, or if a GEMV has narrower than 128-bit weight loads, shared memory or barriers in its hot loop. It
needs a process without TRITON_INTERPRET=1, since that makes Triton leave kernels uncompiled.

Seen with Triton 3.7.1 and 3.9: all well. Triton 3.6 compiles everything, but its nvdisasm can't read
cc 121, its layouts put shared memory into NVFP4's GEMV loop (seen on cc 90), and batch 16 spills.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
import re
import subprocess
import sys
import tempfile
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.errors import TritonError
from triton.runtime import JITFunction

from roofprobe.arguments import parser
from roofprobe.kernels import dequant_triton, gemv_triton, stream_triton
from roofprobe.kernels.sass import LOCAL_MEMORY, SHARED_MEMORY, executed, global_loads, hot_loop, instructions, uses

GB10_MULTIPROCESSORS = 48
KNOWN_CC = (80, 86, 89, 90, 100, 103, 120, 121)  # LLVM ends the process for one that it does not know
_ALIGNED = [["tt.divisibility", 16]]


@dataclass(frozen=True)
class Case:
    """A kernel with everything that its machine code depends on: argument types, constants and warps.

    A pointer in `signature` is 16-byte aligned. weight_bytes is what a lane loads of the weight in one turn of the hot
    loop, 0 where there is no weight.
    """

    name: str
    kernel: Any
    signature: dict[str, str]
    constants: dict[str, Any]
    warps: int
    weight_bytes: int = 0


@dataclass(frozen=True)
class Compiled:
    """What a case compiled to for one compute capability; sizes in bytes, `spilled` the stack and local memory."""

    case: Case
    cc: int
    cubin: bytes
    ptx: str
    sass: str
    registers: int
    spilled: int
    shared: int


def compile_case(case: Case, cc: int) -> Compiled:
    """Compiles and disassembles. Raises RuntimeError under the interpreter and for an empty disassembly."""
    if not isinstance(case.kernel, JITFunction):
        raise RuntimeError(f"{case.name}: TRITON_INTERPRET=1 leaves kernels uncompiled; unset it")
    signature = case.signature | dict.fromkeys(case.constants, "constexpr")
    names = case.kernel.arg_names
    source = ASTSource(
        case.kernel,
        {name: signature[name] for name in names},
        {(names.index(name),): value for name, value in case.constants.items()},
        {(names.index(name),): _ALIGNED for name, kind in case.signature.items() if kind.startswith("*")},
    )
    options = {"num_warps": case.warps, "enable_fp_fusion": False}
    compiled = triton.compile(source, target=GPUTarget("cuda", cc, 32), options=options)
    cubin = compiled.asm["cubin"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        sass = _tool("nvdisasm", "-c", str(path))
        usage = _tool("cuobjdump", "-res-usage", str(path))
    if not instructions(sass)[0]:
        raise RuntimeError(f"{case.name}: nvdisasm shows no instruction for cc {cc}; a newer Triton brings a newer one")
    sizes = {key: int(value) for key, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", usage)}
    if sizes.keys() != {"REG", "STACK", "LOCAL"}:
        raise RuntimeError(f"{case.name}: cuobjdump shows no registers, stack and local memory for cc {cc}")
    spilled = sizes["STACK"] + sizes["LOCAL"]
    return Compiled(case, cc, cubin, compiled.asm["ptx"], sass, sizes["REG"], spilled, compiled.metadata.shared)


def stream_cases() -> Iterator[Case]:
    """The stream kernels with their default configuration, for tensors under 2^31 elements."""
    config = stream_triton.StreamConfig()
    for op, kind in (("fill", "*fp32"), ("write", "*i32"), ("copy", "*i32"), ("triad", "*fp32")):
        signature = {"a": kind, "b": kind, "out": kind, "seed": "i32", "scalar": "fp32", "n": "i32"}
        constants = {"OP": op, "BLOCK": config.block}
        yield Case(op, stream_triton.transfer_kernel, signature, constants, config.warps)
    signature = {"source": "*i32", "out": "*i32", "n": "i32"}
    yield Case("read", stream_triton.read_kernel, signature, {"BLOCK": config.block}, config.warps)


def dequant_cases() -> Iterator[Case]:
    """NVFP4 to each output dtype, and one division."""
    config = dequant_triton.DequantConfig()
    for out_dtype, divide in (
        (torch.bfloat16, False),
        (torch.float16, False),
        (torch.float32, False),
        (torch.bfloat16, True),
    ):
        constants = dequant_triton.constants(out_dtype, divide, config)
        signature = {"codes": "*i32", "scales": "*u8", "global_scale": "*fp32", "out": "*i32", "words": "i32"}
        if out_dtype == torch.float32:
            signature["out"] = "*fp32"
        name = f"dequant-nvfp4-{constants['dtype']}{'-divide' if divide else ''}"
        yield Case(name, dequant_triton.dequantize_nvfp4_kernel, signature, constants, config.warps)


def gemv_cases() -> Iterator[Case]:
    """Both formats at batch 1 and 16 with their default configuration, and K that no tile or wide load divides."""
    for weight_format, k_unaligned in (("bf16", 4095), ("nvfp4", 4112)):
        yield gemv_case(weight_format, 1)
        yield gemv_case(weight_format, 16)
        yield gemv_case(weight_format, 3, k_unaligned, torch.float32)


def gemv_case(weight_format: str, batch: int, k: int = 4096, x_dtype: torch.dtype = torch.bfloat16) -> Case:
    """GEMV as it is launched by default on GB10 for a weight [16384, k] and bfloat16 results."""
    config = gemv_triton.default_config(16384, batch, GB10_MULTIPROCESSORS)
    constants = gemv_triton.constants(weight_format, k, batch, x_dtype, torch.bfloat16, False, config)
    quantized = weight_format == "nvfp4"
    word = "*i64" if quantized else {4: "*i64", 2: "*i32", 1: "*i16"}[constants["PER_WORD"]]
    elements = "*fp32" if x_dtype == torch.float32 else "*bf16"
    signature = {
        "weight": word,
        "scales": "*u8" if quantized else word,
        "global_scale": "*fp32" if quantized else word,
        "x": elements if constants["X"] == "elements" else "*i64",
        "y": "*bf16",
        "n": "i32",
        "aligned_words": "i32",
    }
    rows_aligned = (k // 2 if quantized else 2 * k) % 16 == 0
    weight_bytes = 16 * config.row_groups if rows_aligned else 0
    name = f"gemv-{weight_format}-k{k}-batch{batch}"
    return Case(name, gemv_triton.gemv_kernel, signature, constants, config.warps, weight_bytes)


def all_cases() -> list[Case]:
    """Every kernel that ships, as it is launched by default."""
    return [*stream_cases(), *dequant_cases(), *gemv_cases()]


def faults(compiled: Compiled) -> list[str]:
    """What is wrong with the machine code, one sentence each; empty when it is as it should be."""
    found, _ = instructions(compiled.sass)
    problems = []
    if compiled.spilled or uses(found, LOCAL_MEMORY):
        problems.append(f"spills {compiled.spilled} bytes")
    if ".ftz" in compiled.ptx:
        problems.append("flushes subnormals to zero")
    if not compiled.case.weight_bytes:
        return problems
    body = hot_loop(compiled.sass)
    if not body:
        return [*problems, "has no loop that loads"]
    wide = global_loads(body)[128] * 16
    if wide < compiled.case.weight_bytes:
        problems.append(f"loads {wide} bytes a turn in 128-bit loads, expected {compiled.case.weight_bytes}")
    if used := uses(body, SHARED_MEMORY):
        problems.append(f"uses {', '.join(used)} in its hot loop")
    return problems


def summary(compiled: Compiled) -> str:
    """One line: name, cc, registers, spilled and shared bytes, loads by width, instructions a weight byte."""
    body = hot_loop(compiled.sass) or instructions(compiled.sass)[0]
    loads = " ".join(f"{count}x{bits}" for bits, count in sorted(global_loads(body).items(), reverse=True))
    line = (
        f"{compiled.case.name:26} cc {compiled.cc:3}  {compiled.registers:3} registers  {compiled.spilled} spilled  "
        f"{compiled.shared:4} shared  loads {loads or 'none'}"
    )
    if compiled.case.weight_bytes:
        line += f"  {executed(body) / compiled.case.weight_bytes:.2f} instructions a weight byte"
    return line


def _root(error: BaseException) -> BaseException:
    """The error at the bottom of Triton's chain: the ones above only repeat the source of the calls around it."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _tool(name: str, *arguments: str) -> str:
    path = getattr(triton.knobs.nvidia, name).path
    done = subprocess.run([path, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{name} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def main(argv: list[str] | None = None) -> int:
    """Compiles for each --cc and prints the lines; the exit status says whether all is well."""
    options = _arguments(argv)
    status = 0
    for case in all_cases():
        for cc in options.cc:
            try:
                compiled = compile_case(case, cc)
            except (RuntimeError, TritonError) as error:
                print(f"{case.name}: cc {cc}: {_root(error)}", file=sys.stderr)
                status = 1
                continue
            print(summary(compiled), flush=True)
            for problem in faults(compiled):
                print(f"{case.name}: cc {cc}: {problem}", file=sys.stderr)
                status = 1
    return status


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    command = parser("python -m roofprobe.kernels.compile_only", "Compile every kernel without a GPU.")
    command.add_argument("--cc", type=int, action="append", required=True, choices=KNOWN_CC, help="compute capability")
    return command.parse_args(argv)


if __name__ == "__main__":
    raise SystemExit(main())
