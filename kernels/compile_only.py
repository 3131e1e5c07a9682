"""The kernels that ship as cases to compile, and how one is compiled for a GPU that need not be there.

It needs a process without TRITON_INTERPRET=1, since that makes Triton leave kernels uncompiled. Triton 3.6 compiles
every case, but its nvdisasm can't read cc 121, its layouts put shared memory into NVFP4's GEMV loop (seen on cc 90),
and batch 16 spills.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
import re
import subprocess
import tempfile
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.experimental.gluon._runtime import GluonASTSource
from triton.runtime import JITFunction

from roofprobe.kernels import dequant_triton, gemv_kernel, gemv_mma, gemv_triton, stream_triton
from roofprobe.kernels.dequant_triton import DequantConfig
from roofprobe.kernels.sass import instructions
from roofprobe.kernels.stream_triton import StreamConfig
from roofprobe.lane_registers import stated_registers

GB10_MULTIPROCESSORS = 48
KNOWN_CC = (80, 86, 89, 90, 100, 103, 120, 121)  # LLVM ends the process for one that it does not know
_ALIGNED = [["tt.divisibility", 16]]


@dataclass(frozen=True)
class Case:
    """A kernel with everything that its machine code depends on: argument types, constants and warps.

    A pointer in `signature` is 16-byte aligned. registers: the most a lane may take, where the launch says so.
    """

    name: str
    kernel: Any
    signature: dict[str, str]
    constants: dict[str, Any]
    warps: int
    registers: int | None = None


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
    source = (GluonASTSource if case.kernel.is_gluon() else ASTSource)(
        case.kernel,
        {name: signature[name] for name in names},
        {(names.index(name),): value for name, value in case.constants.items()},
        {(names.index(name),): _ALIGNED for name, kind in case.signature.items() if kind.startswith("*")},
    )
    options = {"num_warps": case.warps, "enable_fp_fusion": False, "maxnreg": case.registers}
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


def stream_case(op: str, config: StreamConfig) -> Case:
    """`fill` or a stream operation for tensors under 2^31 elements."""
    if op == "read":
        signature = {"source": "*i32", "out": "*i32", "n": "i32"}
        return Case(op, stream_triton.read_kernel, signature, {"BLOCK": config.block}, config.warps)
    kind = "*i32" if op in ("write", "copy") else "*fp32"
    signature = {"a": kind, "b": kind, "out": kind, "seed": "i32", "scalar": "fp32", "n": "i32"}
    return Case(op, stream_triton.transfer_kernel, signature, {"OP": op, "BLOCK": config.block}, config.warps)


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


def dequant_case(
    weight_format: str, out_dtype: torch.dtype, *how: str, config: DequantConfig | None = None, k: int = 4096
) -> Case:
    """A dequantization, by default as it is launched; `how` names flags of `dequant_triton.constants`."""
    config = config or DequantConfig()
    constants = dequant_triton.constants(weight_format, k, out_dtype, config, **dict.fromkeys(how, True))
    word = {4: "*i32", 2: "*i16", 1: "*u8"}[constants["PER_WORD"] if weight_format == "fp8" else 4]
    signature = {
        "codes": word,
        "scales": "*u8",
        "scale": "*u8" if weight_format == "mxfp4" else "*fp32",
        "out": "*fp32" if out_dtype == torch.float32 else "*i32",
        "words": "i32",
    }
    mode = [config.decode] if config.decode != "bits" else []
    name = "-".join(("dequant", weight_format, str(constants["dtype"]), *how, *mode))
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
    registers = stated_registers(weight_format, config.warps, config.row_groups, batch)
    name = "-".join(("gemv", weight_format, f"k{k}", f"batch{batch}", *how, *([decode] if decode != "bits" else [])))
    kernel = gemv_mma.gemv_mma_kernel if decode == "mma" else gemv_kernel.gemv_kernel
    return Case(name, kernel, signature, constants, config.warps, registers)


def all_cases() -> list[Case]:
    """Every kernel that ships, as it is launched by default with decode mode "bits", which every GPU has."""
    streams = [stream_case(op, StreamConfig()) for op in ("fill", "write", "copy", "triad", "read")]
    return [*streams, *dequant_cases(), *gemv_cases()]


def _tool(name: str, *arguments: str) -> str:
    path = getattr(triton.knobs.nvidia, name).path
    done = subprocess.run([path, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{name} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
