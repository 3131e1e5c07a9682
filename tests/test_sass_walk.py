"""A thread is followed through machine code: integers as the hardware has them, addresses, branches, unknown values."""

import pytest

from roofprobe.kernels.sass_integer import execute
from roofprobe.kernels.sass_registers import Registers
from roofprobe.kernels.sass_walk import walk


@pytest.mark.parametrize(
    ("opcode", "operands", "expected"),
    [
        ("IMAD", "R9, R2, R3, RZ", 0xFFFFFFFF * 7 & 0xFFFFFFFF),
        ("IMAD.HI.U32", "R9, R2, R3, RZ", 0xFFFFFFFF * 7 >> 32),
        ("IMAD.HI", "R9, R2, R3, RZ", 0xFFFFFFFF),  # -1 * 7 = -7
        ("IADD3", "R9, P0, R2, 0x2, RZ", 1),
        ("IADD3", "R9, PT, PT, R3, -R4, R4", 7),
        ("IADD3.X", "R9, R3, R4, RZ, P1, !PT", 12),  # P1 carries in
        ("LEA", "R9, P0, R3, R4, 0x4", 7 * 16 + 4),
        ("LEA.HI", "R9, R2, R4, RZ, 0x4", 15 + 4),
        ("LEA.HI.X", "R9, R2, R4, R3, 0x4, P1", (7 << 4 | 15) + 4 + 1),
        ("LEA.HI.X.SX32", "R9, R2, R4, 0x4, P1", 4),  # -1 above, the carry
        ("SHF.R.U32.HI", "R9, RZ, 0x1c, R2", 15),
        ("SHF.R.S32.HI", "R9, RZ, 0x1f, R2", 0xFFFFFFFF),
        ("SHF.L.U64.HI", "R9, R2, 0x3, R3", 7 << 3 | 7),
        ("SHF.R.U64", "R9, R4, 0x1, R3", 1 << 31 | 2),
        ("USHF.L.U32", "UR9, UR1, 0x1, URZ", 10),
        ("LOP3.LUT", "R9, R2, 0xf0, RZ, 0xc0, !PT", 0xF0),
        ("LOP3.LUT", "R9, R3, 0x8, R4, 0xfe, !PT", 7 | 8 | 4),
        ("SEL", "R9, R3, R4, !P1", 4),
        ("VIMNMX.S32", "R9, R2, R3, PT", 0xFFFFFFFF),
        ("VIMNMX.U32", "R9, R2, R3, PT", 7),
        ("VIADDMNMX", "R9, R3, 0xffffffff, R4, PT", 4),
        ("PRMT", "R9, R3, 0x5410, R4", 7 | 4 << 16),
        ("SGXT.U32", "R9, R2, 0x4", 15),
        ("HFMA2", "R9, -RZ, RZ, 0, 5.9604644775390625e-08", 1),
        ("P2R", "R9, PR, R4, 0x2", 4 | 2),
        ("P2R", "R9, PR, R4, 0x1", None),  # P0 is not known
        ("LDC", "R9, c[0x0][0x210]", 0x1234),
        ("MOV", "R9, c[0x0][0x210]", 0x1234),
        ("FFMA", "R9, R2, R3, R4", None),
    ],
)  # fmt: skip
def test_integer_instructions(opcode: str, operands: str, expected: int | None) -> None:
    registers = Registers({0x210: 0x1234}, {"R2": 0xFFFFFFFF, "R3": 7, "R4": 4, "UR1": 5, "R9": 0}, {"P1": True})
    execute(opcode, operands.split(", "), registers)
    assert registers.get(operands.split(", ")[0]) == expected


@pytest.mark.parametrize(
    ("opcode", "operands", "expected"),
    [
        ("IMAD.WIDE.U32", "R8, R2, R3, R4", 0xFFFFFFFF * 7 + (6 << 32 | 4)),
        ("IMAD.WIDE", "R8, R2, R3, RZ", -7 & 0xFFFFFFFFFFFFFFFF),
        ("IADD.64", "R8, R4, 0x80", (6 << 32) + 0x84),
        ("UIADD3.64", "UR8, UPT, UPT, UR2, UR2, URZ", 2 * (1 << 32 | 3)),
        ("IMNMX.S64", "PT, PT, R8, R4, R2, PT, !PT", 6 << 32 | 4),
        ("MOV.64", "R8, R4", 6 << 32 | 4),
        ("LDC.64", "R8, c[0x0][0x210]", 2 << 32 | 1),
    ],
)
def test_instructions_on_register_pairs(opcode: str, operands: str, expected: int) -> None:
    words = {"R2": 0xFFFFFFFF, "R3": 7, "R4": 4, "R5": 6, "UR2": 3, "UR3": 1}
    registers = Registers({0x210: 1, 0x214: 2}, dict(words))
    execute(opcode, operands.split(", "), registers)
    assert registers.get(next(o for o in operands.split(", ") if "P" not in o), wide=True) == expected


@pytest.mark.parametrize(
    ("compare", "expected"),
    [
        ("ISETP.GE.AND P0, PT, R2, R3, PT", False),  # -1 >= 7
        ("ISETP.GE.U32.AND P0, PT, R2, R3, PT", True),
        ("ISETP.GT.AND.EX P0, PT, R3, R3, PT, P1", True),  # equal above: the lower words decide
        ("ISETP.GE.S64.AND P0, PT, R4, R6, PT", True),
        ("PLOP3.LUT P0, PT, P1, PT, PT, 0x80, 0x8", True),
        ("PLOP3.LUT P0, PT, P1, PT, PT, 0x8, 0x8", False),
    ],
)
def test_predicates(compare: str, expected: bool) -> None:
    words: dict[str, int | None] = {"R2": 0xFFFFFFFF, "R3": 7, "R4": 0, "R5": 1, "R6": 5, "R7": 0}
    registers = Registers({}, words, {"P1": True})
    opcode, operands = compare.split(" ", 1)
    execute(opcode, operands.split(", "), registers)
    assert registers.test("P0") is expected


def listing(*lines: str) -> str:
    """Lines at addresses 0, 0x10, …; a line that starts with a dot is a label."""
    text, address = [], 0
    for line in lines:
        if line.startswith("."):
            text.append(f"{line}:")
        else:
            text.append(f"        /*{address:04x}*/  {line} ;")
            address += 16
    return "\n".join(text)


LOOP = listing(
    "S2R R0, SR_TID.X",
    "S2UR UR4, SR_CTAID.Y",
    "LDC.64 R2, c[0x0][0x210]",
    "IMAD.WIDE.U32 R2, R0, 0x10, R2",
    "MOV R4, RZ",
    ".L_x_0",
    "LDG.E.128 R8, desc[UR6][R2.64+0x100]",
    "IADD3 R4, R4, 0x1, RZ",
    "IADD.64 R2, R2, 0x200",
    "ISETP.GE.AND P0, PT, R4, 0x3, PT",
    "@!P0 BRA `(.L_x_0)",
    "IMAD.WIDE R6, R8, 0x4, R2",
    "LDG.E R5, desc[UR6][R6.64]",
    "@P0 LDG.E.U8 R5, desc[UR6][R2.64+-0x1]",
    "@!P0 STG.E R5, desc[UR6][R2.64]",
    "EXIT",
)
BASE = 5 << 32


def test_a_thread_goes_round_a_loop_and_adds_in_64_bits() -> None:
    seen = walk(LOOP, {0x210: 0xFFFFFF00, 0x214: 5}, (0, 0, 0), 3)
    first = (5 << 32) + 0xFFFFFF00 + 0x30 + 0x100
    assert [(a.size, a.address) for a in seen] == [
        (16, first),
        (16, first + 0x200),
        (16, first + 0x400),
        (4, None),  # its address was loaded
        (1, first + 0x4FF),
    ]


def test_memory_can_hold_what_addresses_hang_on() -> None:
    seen = walk(LOOP, {0x210: 0, 0x214: 5}, (0, 0, 0), 0, lambda _address, _size: 2)
    assert seen[3].address == BASE + 0x600 + 8


def test_a_loop_without_end_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="did not end"):
        walk(listing(".L_x_0", "MOV R4, RZ", "BRA `(.L_x_0)"), {}, (0, 0, 0), 0)
