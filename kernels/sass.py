"""Reads a disassembly: instructions, loops (by their backward branches), and what a loop loads and executes."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
import re

_LABEL = re.compile(r"^\s*(\.L_x_\d+):")
_INSTRUCTION = re.compile(r"^\s*/\*([0-9a-f]{4,})\*/\s+(?:@(!?U?P\w+)\s+)?([A-Z][\w.]*)\s*([^;]*);")
_TARGET = re.compile(r"`\((\.L_x_\d+)\)")
_WIDTHS = {"U8": 8, "S8": 8, "U16": 16, "S16": 16, "64": 64, "128": 128, "256": 256}


@dataclass(frozen=True)
class Instruction:
    """One SASS instruction: address in bytes, opcode with its modifiers (`LDG.E.128`), operands as text.

    guard: the predicate that it runs under, `P0` or `!P0`; empty where it always runs.
    """

    address: int
    opcode: str
    operands: str
    guard: str = ""

    @property
    def name(self) -> str:
        """The opcode without modifiers."""
        return self.opcode.split(".")[0]

    @property
    def access_bits(self) -> int:
        """Bits that a load or store moves per lane."""
        return next((_WIDTHS[part] for part in self.opcode.split(".") if part in _WIDTHS), 32)


def instructions(disassembly: str) -> tuple[list[Instruction], dict[str, int]]:
    """The instructions of nvdisasm's output in order, and the address that each label stands for."""
    found: list[Instruction] = []
    waiting: list[str] = []
    labels: dict[str, int] = {}
    for line in disassembly.splitlines():
        if label := _LABEL.match(line):
            waiting.append(label[1])
        elif match := _INSTRUCTION.match(line):
            address = int(match[1], 16)
            labels.update(dict.fromkeys(waiting, address))
            waiting.clear()
            found.append(Instruction(address, match[3], match[4].strip(), match[2] or ""))
    return found, labels


def loops(disassembly: str) -> list[list[Instruction]]:
    """Every loop's instructions, from the target of a backward branch to the branch; not the final trap loop."""
    found, labels = instructions(disassembly)
    bodies = []
    for branch in found:
        target = _TARGET.search(branch.operands)
        if branch.name == "BRA" and target and labels[target[1]] < branch.address:
            bodies.append([i for i in found if labels[target[1]] <= i.address <= branch.address])
    return bodies


def hot_loop(disassembly: str) -> list[Instruction]:
    """The loop that loads the most bytes from global memory; empty if no loop loads any."""
    return max((body for body in loops(disassembly) if loaded_bytes(body)), key=loaded_bytes, default=[])


def loaded_bytes(body: Iterable[Instruction]) -> int:
    """Bytes that one lane loads from global memory."""
    return sum(i.access_bits for i in body if i.name == "LDG") // 8


def global_loads(body: Iterable[Instruction]) -> Counter[int]:
    """How many global loads of each width in bits."""
    return Counter(i.access_bits for i in body if i.name == "LDG")


def uses(body: Iterable[Instruction], names: frozenset[str]) -> list[str]:
    """The opcodes in `body` whose names are among `names`, sorted."""
    return sorted({i.opcode for i in body if i.name in names})


SHARED_MEMORY = frozenset({"LDS", "STS", "LDSM", "STSM", "LDGSTS", "BAR", "LDGDEPBAR", "DEPBAR"})
LOCAL_MEMORY = frozenset({"LDL", "STL"})


def executed(body: Iterable[Instruction]) -> int:
    """Instructions that take an issue slot: all but NOP."""
    return sum(i.name != "NOP" for i in body)
