"""Follows one thread through a disassembled kernel, with arguments of our choice, and notes every global access.

So a kernel's addresses can be seen without a GPU, also where the tensors are larger than any memory: whether the
offset of a row past 2^31 survives, which tensor each load reads and how many bytes a thread moves. Floating-point
values are unknown; a branch on one falls through and a call returns at once, since no address hangs on data other than
what `memory` gives.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
import re

from roofprobe.kernels.sass import Instruction, instructions
from roofprobe.kernels.sass_integer import execute
from roofprobe.kernels.sass_registers import LONG, Registers, Value, is_predicate

MOST_STEPS = 100_000
_TARGET = re.compile(r"`\((\.L_x_\d+)\)")
_OPERAND_SEPARATOR = re.compile(r",\s*")
_NO_RESULT = frozenset(
    {"NOP", "BAR", "BSSY", "BSYNC", "WARPSYNC", "DEPBAR", "MEMBAR", "STS", "STL", "RET", "CALL", "ERRBAR"}
)


@dataclass(frozen=True)
class Access:
    """One executed load or store of global memory: where in the code, at which address (None: not known), its bits."""

    instruction: Instruction
    address: int | None

    @property
    def is_load(self) -> bool:
        return self.instruction.name == "LDG"

    @property
    def size(self) -> int:
        """Bytes."""
        return self.instruction.access_bits // 8


def walk(
    disassembly: str,
    constants: Mapping[int, int],
    program: tuple[int, int, int],
    thread: int,
    memory: Callable[[int, int], Value] = lambda _address, _size: None,
) -> list[Access]:
    """What thread `thread` of program `program` (x, y, z) loads and stores, in order.

    constants: the constant bank as 32-bit words by byte offset. memory(address, bytes) is the integer stored there or
    None. Raises RuntimeError if the thread has not come to its end after 100 000 instructions.
    """
    code, labels = instructions(disassembly)
    place = {instruction.address: i for i, instruction in enumerate(code)}
    jumps = {label: place[address] for label, address in labels.items()}
    operands = [_operands(instruction) for instruction in code]
    special = {"SR_TID.X": thread, "SR_LANEID": thread % 32}
    special |= {f"SR_CTAID.{axis}": number for axis, number in zip("XYZ", program)}
    registers = Registers(dict(constants))
    accesses: list[Access] = []
    at = 0
    for _ in range(MOST_STEPS):
        if at >= len(code):
            return accesses
        instruction = code[at]
        taken = registers.test(instruction.guard) if instruction.guard else True
        at += 1
        if taken is False:
            continue
        match instruction.name:
            case "EXIT":
                if taken:
                    return accesses
            case "BRA":
                if taken and (target := _jump(instruction, operands[at - 1], registers)):
                    at = jumps[target]
            case "LDG" | "STG":
                access = Access(instruction, _address(instruction.operands, registers))
                accesses.append(access)
                if access.is_load:
                    known = taken and access.address is not None
                    loaded = memory(access.address, access.size) if known and access.address is not None else None
                    registers.put(operands[at - 1][0], loaded, max(1, access.size // 4))
            case "S2R" | "S2UR":
                registers.put(operands[at - 1][0], special.get(operands[at - 1][1], 0))
            case name if name in _NO_RESULT:
                pass
            case _:
                execute(instruction.opcode, operands[at - 1], registers)
                if taken is None:
                    execute("UNKNOWN", operands[at - 1], registers)
    raise RuntimeError(f"the thread did not end after {MOST_STEPS} instructions")


def _operands(instruction: Instruction) -> list[str]:
    return _OPERAND_SEPARATOR.split(instruction.operands) if instruction.operands else []


def _jump(instruction: Instruction, operands: list[str], registers: Registers) -> str | None:
    """The label that a branch goes to, or None where it falls through."""
    if "DIV" in instruction.opcode.split("."):  # only where a warp's threads part
        return None
    conditions = [registers.test(operand) for operand in operands if is_predicate(operand)]
    target = _TARGET.search(instruction.operands)
    return target[1] if target and all(conditions) else None


def _address(operands: str, registers: Registers) -> int | None:
    """The 64-bit address of `desc[UR8][R26.64+0x10]` and its like."""
    total = 0
    inner = operands[operands.rindex("[") + 1 : operands.rindex("]")]
    for term in inner.split("+"):
        value = registers.get(term.removesuffix(".U32"), wide=not term.endswith(".U32"))
        if value is None:
            return None
        total += value
    return total & LONG
