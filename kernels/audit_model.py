"""What each kernel has to move, so that its machine code can be held against it: the audit's byte model.

A scenario is one launch that no memory could hold: tensors past 2^33 bytes and the program that works at their far end,
where an offset that was computed in 32 bits has long wrapped. For every tensor it says which bytes that program may
touch and how many the followed threads must move.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from roofprobe.kernels.compile_only import Case

SCALE_BYTES_PER_WEIGHT_BYTE = {"bf16": 0.0, "fp8": 0.0, "nvfp4": 1 / 8, "mxfp4": 1 / 16}
"""Block scales that the GEMV loop reads beside each byte of weights: one for 8 (NVFP4) or 16 bytes (MXFP4) of codes."""
WORDS = {"*i64": 8, "*i32": 4, "*i16": 2, "*u8": 1}
FAR_BYTES = 1 << 36
"""At least this long is a weight in a scenario: its offsets need 64 bits whether they count bytes, words or weights."""
BASES = {i: (0x70 + i) << 40 for i in range(16)}
"""Where the i-th argument's tensor lies: an address says which tensor it is in."""


@dataclass(frozen=True)
class Extent:
    """Bytes of a tensor that a program may touch, and how many the followed threads together must; None: any number."""

    first: int
    end: int
    moved: int | None = None


@dataclass(frozen=True)
class Scenario:
    """A launch: its integer arguments, grid size, the program and threads to follow, what they may touch by tensor.

    memory: 32-bit integers that a tensor holds at every place, by the tensor's name (expert numbers, say).
    """

    scalars: Mapping[str, int]
    grid: tuple[int, int, int]
    program: tuple[int, int, int]
    threads: tuple[int, ...]
    extents: Mapping[str, Extent]
    memory: Mapping[str, int]


def weight_format(case: Case) -> str:
    """`bf16`, `nvfp4` and so on; `b32` for kernels that move plain words."""
    return str(case.constants.get("FORMAT", "b32"))


def is_gemv(case: Case) -> bool:
    return "GROUPS" in case.constants


def sixteen_bit_results(case: Case) -> bool:
    """Whether the case is a dequantization to bfloat16 or float16."""
    return "codes" in case.signature and case.signature["out"] != "*fp32"


def code_bits(weight_format: str) -> int:
    """Bits of codes that become eight weights: one 128-bit store of 16-bit results."""
    return 64 if weight_format == "fp8" else 32


def rows_aligned(case: Case) -> bool:
    """Whether every row of the weight starts on 16 bytes, so that 128-bit loads are possible at all."""
    return int(case.constants["ALIGN"]) * word_bytes(case) >= 16


def word_bytes(case: Case) -> int:
    """Bytes of a word of the weight."""
    return WORDS[case.signature["weight" if is_gemv(case) else "codes"]]


def turn_bytes(case: Case) -> int:
    """Bytes of weights that a lane loads in one turn of the GEMV loop."""
    constants = case.constants
    tile = int(constants["GROUPS"]) * int(constants["LANE_ROWS"]) * int(constants["TILE"]) * word_bytes(case)
    return tile // (32 * case.warps)


def scenario(case: Case) -> Scenario:
    """The far end of a launch that fits the case. Raises KeyError for a kernel that has no model here."""
    makers = {"gemv_kernel": _gemv, "gemv_mma_kernel": _gemv, "transfer_kernel": _transfer, "read_kernel": _read}
    makers |= {"grouped_gemv_kernel": _grouped_gemv, "dequantize_kernel": _dequantize}
    return makers[case.kernel.__name__](case)


def _gemv(case: Case) -> Scenario:
    row, program_rows, words = _row(case)
    n = -(-FAR_BYTES // (row * program_rows)) * program_rows
    extents = _weight_extents(case, row, n - program_rows, n, n)
    scalars = {"n": n, "aligned_words": words // int(case.constants["ALIGN"])}
    programs = n // program_rows
    return Scenario(scalars, (programs, 1, 1), (programs - 1, 0, 0), _threads(case), extents, {})


def _grouped_gemv(case: Case) -> Scenario:
    """Token 1's second expert of two tokens with two each: an expert past 2^36 bytes."""
    row, program_rows, words = _row(case)
    tiles, pair = 64, 3
    n, tile, expert = tiles * program_rows, tiles - 1, -(-FAR_BYTES // (row * tiles * program_rows))
    extents = _weight_extents(case, row, tile * program_rows, n, n, expert)
    extents["expert_ids"] = Extent(4 * pair, 4 * pair + 4)
    scalars = {"n": n, "aligned_words": words // int(case.constants["ALIGN"])}
    scalars["experts"] = expert + 1
    return Scenario(scalars, (2, 2, tiles), (1, 1, tile), _threads(case), extents, {"expert_ids": expert})


def _row(case: Case) -> tuple[int, int, int]:
    """(bytes a row, rows a program, words a row): 16 whole tiles, or two and a piece for a kernel with a tail.

    16, so that a thread comes through the main loop too where ptxas has unrolled it.
    """
    constants = case.constants
    tile, align = int(constants["TILE"]), int(constants["ALIGN"])
    words = 16 * tile if constants["WHOLE_TILES"] else 2 * tile + align
    return words * word_bytes(case), int(constants["GROUPS"]) * int(constants["LANE_ROWS"]), words


def _scale_bytes(case: Case, row: int) -> int:
    """Block scale bytes of a row. Raises KeyError for a format without a model."""
    return int(row * SCALE_BYTES_PER_WEIGHT_BYTE[weight_format(case)])


def _threads(case: Case) -> tuple[int, ...]:
    """Lanes of whole tiles move alike; under a mask all of them together have to cover the rows."""
    last = 32 * case.warps - 1
    return (0, last) if case.constants["WHOLE_TILES"] else tuple(range(last + 1))


def _weight_extents(case: Case, row: int, first: int, end: int, n: int, expert: int = 0) -> dict[str, Extent]:
    """For rows `first` to `end` of an expert's `n`, a program's worth."""
    part = len(_threads(case)) / (32 * case.warps)
    start = expert * n
    extents = {"weight": Extent((start + first) * row, (start + end) * row, int((end - first) * row * part))}
    if scales := _scale_bytes(case, row):
        moved = int((end - first) * scales * part)
        extents["scales"] = Extent((start + first) * scales, (start + end) * scales, moved)
        if case.constants.get("SWIZZLED"):  # row tiles of 128 by 4 scales, 512 bytes each
            tile, tiles = -(-scales // 4) * 512, -(-n // 128)
            extents["scales"] = Extent((expert * tiles + first // 128) * tile, (expert + 1) * tiles * tile, moved)
    return extents


def _transfer(case: Case) -> Scenario:
    """The last whole block of 2^31 - BLOCK elements of four bytes."""
    block = int(case.constants["BLOCK"])
    n = (1 << 31) - block
    sources = {"copy": ("a",), "triad": ("a", "b")}.get(case.constants["OP"], ())
    moved = 2 * 4 * block // (32 * case.warps)
    extents = {name: Extent(4 * (n - block), 4 * n, moved) for name in (*sources, "out")}
    scalars = {"n": n, "seed": 1, "scalar": 0}
    return Scenario(scalars, (n // block, 1, 1), (n // block - 1, 0, 0), (0, 32 * case.warps - 1), extents, {})


def _read(case: Case) -> Scenario:
    """The last of the programs that read three blocks each."""
    block = int(case.constants["BLOCK"])
    programs = ((1 << 31) - 1) // block // 3
    n, threads = 3 * programs * block, (0, 32 * case.warps - 1)
    moved = 2 * 3 * 4 * block // (32 * case.warps)
    extents = {"source": Extent(4 * (programs - 1) * block, 4 * n, moved)}
    extents["out"] = Extent(4 * (programs - 1), 4 * programs)
    return Scenario({"n": n}, (programs, 1, 1), (programs - 1, 0, 0), threads, extents, {})


def _dequantize(case: Case) -> Scenario:
    """The last whole block of nearly 2^31 words."""
    constants, width = case.constants, word_bytes(case)
    block = int(constants["WORDS"]) * int(constants["TILE"])
    words = (1 << 31) // block * block - block
    threads = (0, 32 * case.warps - 1)
    share = len(threads) / (32 * case.warps)
    out = int(constants["PER_WORD"]) * (4 if case.signature["out"] == "*fp32" else 2)  # bytes that a word becomes
    extents = {
        "codes": Extent(width * (words - block), width * words, int(width * block * share)),
        "out": Extent(out * (words - block), out * words, int(out * block * share)),
    }
    if scale := SCALE_BYTES_PER_WEIGHT_BYTE[weight_format(case)]:  # neighbouring lanes share one: any number of loads
        extents["scales"] = Extent(int(width * (words - block) * scale), int(width * words * scale))
        if constants["SWIZZLED"]:
            row = int(constants["ROW_WORDS"])
            extents["scales"] = Extent(0, -(-words // (128 * row)) * -(-int(width * row * scale) // 4) * 512)
    return Scenario({"words": words}, (words // block, 1, 1), (words // block - 1, 0, 0), threads, extents, {})


def constant_bank(case: Case, cc: int, launch: Scenario) -> dict[int, int]:
    """The constant bank of that launch as 32-bit words: grid size and arguments, placed as the driver places them."""
    grid, base = (0x370, 0x380) if cc >= 100 else (0x0C, 0x210 if cc >= 90 else 0x160)
    bank = {grid + 4 * i: programs for i, programs in enumerate(launch.grid)}
    offset = base
    for i, (name, kind) in enumerate(arguments(case)):
        wide = kind.startswith("*") or kind == "i64"
        offset += -offset % (8 if wide else 4)
        value: Any = BASES[i] if kind.startswith("*") else launch.scalars[name]
        bank[offset] = value & 0xFFFFFFFF
        if wide:
            bank[offset + 4] = value >> 32
        offset += 8 if wide else 4
    return bank


def arguments(case: Case) -> list[tuple[str, str]]:
    """Name and type of every argument that exists at run time, in order."""
    return [(name, case.signature[name]) for name in case.kernel.arg_names if name not in case.constants]
