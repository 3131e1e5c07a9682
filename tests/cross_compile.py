"""Prints the host kernels' assembly for another machine as JSON: kernel -> CPU -> text.

    NUMBA_CACHE_DIR=$(mktemp -d) python cross_compile.py arm|x86

The kernels go to LLVM as numba makes them here, with the choices that it would make on the target. Wants an empty
NUMBA_CACHE_DIR, since those choices end in the cache.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any

from llvmlite import binding
import numba
import numpy as np

from roofprobe.kernels import dequant_host, stream_host, vector_math
from roofprobe.kernels.weights_host import FP8, NVFP4

TRIPLE = {"x86": "x86_64-unknown-linux-gnu", "arm": "aarch64-unknown-linux-gnu"}
LAYOUT = {
    "x86": "e-m:e-p270:32:32-p271:32:32-p272:64:64-i64:64-i128:128-f80:128-n8:16:32:64-S128",
    "arm": "e-m:e-i8:8:32-i16:16:32-i64:64-i128:128-n32:64-S128",
}
SHUFFLE = {"x86": "llvm.x86.ssse3.pshuf.b.128", "arm": "llvm.aarch64.neon.tbl1.v16i8"}
CPUS = {"x86": ("haswell", "znver4"), "arm": ("generic", "cortex-x2")}  # LLVM may not know cortex-x925 yet

COUNTER, BYTES, HALVES, FLOATS = (np.zeros(1, dtype=t) for t in (np.int64, np.uint8, np.uint16, np.float32))
KERNELS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "copy": (stream_host._copy_worker, (COUNTER, FLOATS, FLOATS, 1, True)),
    "triad": (stream_host._triad_worker, (COUNTER, FLOATS, FLOATS, np.float32(3), FLOATS, 1, True)),
    "dequant nvfp4": (dequant_host._worker, (COUNTER, NVFP4(BYTES, BYTES, BYTES, 1), 16, HALVES, False, 1, True)),
    "dequant fp8": (dequant_host._worker, (COUNTER, FP8(BYTES, FLOATS), 16, HALVES, False, 1, True)),
}


def llvm_for(target: str, kernel: Any, arguments: tuple[Any, ...]) -> str:
    """The kernel's module, retargeted."""
    fresh = numba.njit(nogil=True, error_model="numpy")(kernel.py_func)
    fresh.compile(tuple(numba.typeof(argument) for argument in arguments))
    (text,) = fresh.inspect_llvm().values()
    text = re.sub('target triple = ".*"', f'target triple = "{TRIPLE[target]}"', text)
    text = re.sub('target datalayout = ".*"', f'target datalayout = "{LAYOUT[target]}"', text)
    # Only the kernel: numba's wrappers for Python count references with an x86 intrinsic.
    text = re.sub(r"^define (?![^\n]* @_ZN(?!7cpython)).*?^}$", "", text, flags=re.M | re.S)
    for name in SHUFFLE.values():
        text = text.replace(name, SHUFFLE[target])
    return text


def assembly(target: str, text: str, cpu: str) -> str:
    """The module's machine code as text."""
    machine = binding.Target.from_triple(TRIPLE[target]).create_target_machine(cpu=cpu, opt=3)
    return str(machine.emit_assembly(binding.parse_assembly(text)))


def main(target: str) -> None:
    """Prints every kernel for every CPU of `target`."""
    here = vector_math.shuffle_instruction(binding.get_process_triple())
    choices: Any = vector_math
    choices.shuffle_instruction = lambda _: here
    choices.is_arm = lambda _: target == "arm"
    choices.converts_halves = lambda _: True
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    texts = {name: llvm_for(target, *kernel) for name, kernel in KERNELS.items()}
    print(
        json.dumps({name: {cpu: assembly(target, text, cpu) for cpu in CPUS[target]} for name, text in texts.items()})
    )


if __name__ == "__main__":
    main(sys.argv[1])
