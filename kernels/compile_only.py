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
from roofprobe.kernels import dequant_triton, gemv_kernel, gemv_triton, stream_triton
from roofprobe.kernels.decode import decode_mode
from roofprobe.kernels.formats import FORMAT_NAMES
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
    """Every format to bfloat16; NVFP4 to the other output dtypes, with a division, and from swizzled scales."""
    bf16 = torch.bfloat16
    yield dequant_case("nvfp4", bf16)
    yield dequant_case("nvfp4", torch.float16)
    yield dequant_case("nvfp4", torch.float32)
    yield dequant_case("nvfp4", bf16, "divide")
    yield dequant_case("nvfp4", bf16, "swizzled")
    yield dequant_case("mxfp4", bf16)
    yield dequant_case("fp8", bf16)
    yield dequant_case("fp8", bf16, "by_row")


def dequant_case(weight_format: str, out_dtype: torch.dtype, *how: str, decode: str = "bits", k: int = 4096) -> Case:
    """A dequantization as it is launched by default; `how` names flags of `dequant_triton.constants`."""
    config = dequant_triton.DequantConfig(decode=decode)
    constants = dequant_triton.constants(weight_format, k, out_dtype, config, **dict.fromkeys(how, True))
    word = {4: "*i32", 2: "*i16", 1: "*u8"}[constants["PER_WORD"] if weight_format == "fp8" else 4]
    signature = {
        "codes": word,
        "scales": "*u8",
        "scale": "*u8" if weight_format == "mxfp4" else "*fp32",
        "out": "*fp32" if out_dtype == torch.float32 else "*i32",
        "words": "i32",
    }
    name = "-".join(("dequant", weight_format, str(constants["dtype"]), *how, *([decode] if decode != "bits" else [])))
    return Case(name, dequant_triton.dequantize_kernel, signature, constants, config.warps)


def gemv_cases() -> Iterator[Case]:
    """Every format at batch 1 with its default configuration, K that no tile or wide load divides, swizzled scales.

    Batch 16 for the widest and the narrowest weights.
    """
    for weight_format, k_unaligned in (("bf16", 4095), ("nvfp4", 4112), ("mxfp4", 4128), ("fp8", 4098)):
        yield gemv_case(weight_format, 1)
        yield gemv_case(weight_format, 3, k_unaligned, torch.float32)
    for weight_format in ("nvfp4", "mxfp4"):
        yield gemv_case(weight_format, 1, how=("swizzled",))
    for weight_format in ("bf16", "nvfp4"):
        yield gemv_case(weight_format, 16)


def mode_cases(cc: int) -> Iterator[Case]:
    """Every format in the decode mode that a GPU of this compute capability gets, where that is not "bits"."""
    mode = decode_mode((cc // 10, cc % 10), triton.__version__)
    if mode == "bits":
        return
    for weight_format in FORMAT_NAMES:
        yield gemv_case(weight_format, 1, decode=mode)
    for weight_format in ("nvfp4", "mxfp4"):
        yield gemv_case(weight_format, 1, how=("swizzled",), decode=mode)
    yield gemv_case("nvfp4", 16, decode=mode)
    for weight_format in FORMAT_NAMES[1:]:
        yield dequant_case(weight_format, torch.bfloat16, decode=mode)


def gemv_case(
    weight_format: str,
    batch: int,
    k: int = 4096,
    x_dtype: torch.dtype = torch.bfloat16,
    decode: str = "bits",
    how: tuple[str, ...] = (),
) -> Case:
    """GEMV as it is launched by default on GB10 for a weight [16384, k] and bfloat16 results; `how` names flags."""
    config = gemv_triton.default_config(16384, batch, GB10_MULTIPROCESSORS, decode)
    flags = dict.fromkeys(how, True)
    constants = gemv_triton.constants(weight_format, k, batch, x_dtype, torch.bfloat16, config, **flags)
    word_bytes = int(constants["PER_WORD"] * {"bf16": 2, "fp8": 1}.get(weight_format, 0.5))
    word = {4: "*i32", 2: "*i16", 1: "*u8"}[word_bytes]
    blocks = weight_format in ("nvfp4", "mxfp4")
    signature = {
        "weight": word,
        "scales": "*i16" if constants["SCALE_BYTES"] == 2 else "*u8" if blocks else word,
        "scale": "*u8" if weight_format == "mxfp4" else word if weight_format == "bf16" else "*fp32",
        "x": "*i32" if constants["X"] != "elements" else "*fp32" if x_dtype == torch.float32 else "*bf16",
        "y": "*bf16",
        "n": "i32",
        "aligned_words": "i32",
    }
    weight_bytes = 16 * config.row_groups if constants["ALIGN"] * word_bytes == 16 else 0
    name = "-".join(("gemv", weight_format, f"k{k}", f"batch{batch}", *how, *([decode] if decode != "bits" else [])))
    return Case(name, gemv_kernel.gemv_kernel, signature, constants, config.warps, weight_bytes)


def all_cases() -> list[Case]:
    """Every kernel that ships, as it is launched by default with decode mode "bits", which every GPU has."""
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
        f"{compiled.case.name:38} cc {compiled.cc:3}  {compiled.registers:3} registers  {compiled.spilled} spilled  "
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
    for cc in options.cc:
        for case in (*all_cases(), *mode_cases(cc)):
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
