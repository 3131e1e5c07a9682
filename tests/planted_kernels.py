"""Kernels with one fault each: `python planted_kernels.py` compiles them and prints what the audit finds, as JSON.

It needs a process without TRITON_INTERPRET=1.
"""

# ruff: noqa: ARG001 (the audit reads a case's constants, those that this small kernel has no use for too)

from dataclasses import replace
import json
import sys

import torch
import triton
import triton.language as tl

from roofprobe.kernels import compile_only
from roofprobe.kernels.audit import audit
from roofprobe.kernels.audit_command import audit_one
from roofprobe.kernels.audit_selection import grouped
from roofprobe.kernels.compile_only import Case, compile_case, dequant_case, gemv_case, stream_case
from roofprobe.kernels.stream_triton import StreamConfig

SIGNATURE = {"weight": "*i64", "scales": "*u8", "x": "*fp32", "y": "*fp32", "n": "i32", "aligned_words": "i32"}
CONSTANTS = {
    "MODE": "bits",
    "PER_WORD": 4,
    "ALIGN": 2,
    "WHOLE_TILES": True,
    "BATCH": 1,
    "GROUPS": 1,
    "STAGES": 1,
}


@triton.jit
def gemv_kernel(
    weight, scales, x, y, n, aligned_words,
    PLANT: tl.constexpr, FORMAT: tl.constexpr, MODE: tl.constexpr, PER_WORD: tl.constexpr, ALIGN: tl.constexpr,
    WHOLE_TILES: tl.constexpr, BATCH: tl.constexpr, GROUPS: tl.constexpr, LANE_ROWS: tl.constexpr, TILE: tl.constexpr,
    STAGES: tl.constexpr,
):  # fmt: skip
    """y[row] = sum of the row's words, each times a value of x; PLANT names the fault."""
    words = aligned_words * ALIGN
    row = tl.program_id(0) * LANE_ROWS + tl.arange(0, LANE_ROWS)[:, None]
    row_start = row * words if PLANT == "32-bit offsets" else row.to(tl.int64) * words
    total = tl.zeros([LANE_ROWS, TILE], tl.float32)
    for start in tl.range(TILE if PLANT == "missing bytes" else 0, words, TILE):
        word = start + tl.arange(0, TILE)[None, :] + (row * 0)
        if PLANT == "narrow loads":
            half = weight.to(tl.pointer_type(tl.int32)) + 2 * (row_start + word)
            value = tl.load(half) + tl.load(half + 1)
        else:
            value = tl.load(weight + row_start + word)
        facing = tl.load(x + word)
        if PLANT == "shared memory":
            facing += tl.sum(facing, axis=0)[None, :]
        if PLANT == "barrier":
            tl.debug_barrier()
        if PLANT == "many instructions":
            for _ in tl.static_range(64):
                facing = tl.fma(facing, facing, 1.0)
        if PLANT == "scales read twice":
            facing += (tl.load(scales + row_start + word) + tl.load(scales + row_start + (word ^ 1))).to(tl.float32)
        elif FORMAT == "nvfp4":
            facing += tl.load(scales + row_start + word).to(tl.float32)
        total = tl.fma(value.to(tl.float32), facing, total)
    tl.store(y + tl.program_id(0) * LANE_ROWS + tl.arange(0, LANE_ROWS), tl.sum(total, axis=1))


def planted(plant: str) -> Case:
    spills = plant == "spills"
    constants = CONSTANTS | {
        "PLANT": plant,
        "FORMAT": "nvfp4" if plant in ("none with scales", "scales read twice") else "bf16",
        "LANE_ROWS": 32 if spills else 16,
        "TILE": 1024 if spills else 16,
    }
    return Case(f"gemv-planted-{plant}", gemv_kernel, SIGNATURE, constants, 1 if spills else 4)


@triton.jit
def dequantize_kernel(codes, scales, scale, out, words, FORMAT: tl.constexpr, PER_WORD: tl.constexpr,
    SWIZZLED: tl.constexpr, WORDS: tl.constexpr, TILE: tl.constexpr):  # fmt: skip
    """Byte by byte: narrow loads of codes, narrow stores, and a barrier."""
    word = tl.program_id(0).to(tl.int64) * (WORDS * TILE) + tl.arange(0, TILE)
    value = tl.load(codes + word).to(tl.int32) + tl.load(scales + word // 8).to(tl.int32)
    tl.debug_barrier()
    tl.store(out + word, value)


def narrow_dequantization() -> Case:
    signature = {"codes": "*u8", "scales": "*u8", "scale": "*fp32", "out": "*i32", "words": "i32"}
    constants = {"FORMAT": "nvfp4", "PER_WORD": 2, "SWIZZLED": False, "WORDS": 1, "TILE": 128}
    return Case("dequant-planted", dequantize_kernel, signature, constants, 4)


SOUND = {
    "copy": (stream_case("copy", StreamConfig()), "BLOCK"),
    "dequant": (dequant_case("nvfp4", torch.bfloat16), "WORDS"),
    "grouped": (grouped(gemv_case("fp8", 1)), "GROUPS"),
}
"""Kernels that ship, and the constant that says how much a program of theirs moves."""


def held_against_twice(case: Case, constant: str) -> list[str]:
    """What the audit finds where the code moves half of what its case says."""
    compiled = compile_case(case, 121)
    twice = case.constants | {constant: 2 * int(case.constants[constant])}
    return list(audit(replace(compiled, case=replace(case, constants=twice))).findings)


PLANTS = {
    "none": (121, 90),
    "32-bit offsets": (121, 90),
    "none with scales": (121,),
    "missing bytes": (121,),
    "narrow loads": (121,),
    "shared memory": (121,),
    "barrier": (121,),
    "many instructions": (121,),
    "scales read twice": (121,),
    "spills": (121,),
}


def main() -> None:
    found = {
        f"{plant} {cc}": list(audit(compile_case(planted(plant), cc)).findings)
        for plant, ccs in PLANTS.items()
        for cc in ccs
    }
    found["narrow dequantization 121"] = list(audit(compile_case(narrow_dequantization(), 121)).findings)
    found |= {f"half of {name} 121": held_against_twice(*sound) for name, sound in SOUND.items()}
    tool = compile_only._tool
    compile_only._tool = lambda name, *arguments: "" if name == "nvdisasm" else tool(name, *arguments)
    found["empty disassembly 121"] = [str(audit_one("subset", 0, 121, None))]
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
