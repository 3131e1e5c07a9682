"""One thread's registers, predicates and constant bank; None stands for a value that is not known.

Registers are named as nvdisasm names them (`R4`, `UR4`, `P0`, `UP0`), each 32 bits; `R4` as 64 bits is R5:R4.
"""

from dataclasses import dataclass, field
import re

WORD = 0xFFFFFFFF
LONG = 0xFFFFFFFFFFFFFFFF
Value = int | None

_PREDICATE = re.compile(r"!?U?P[T\d]+")
_REGISTER = re.compile(r"(U?R)(\d+|Z)")
_CONSTANT = re.compile(r"c\[0x0\]\[(0x[0-9a-f]+)\]")
_NUMBER = re.compile(r"-?(0x[0-9a-f]+|\d+)")


def is_predicate(operand: str) -> bool:
    return _PREDICATE.fullmatch(operand) is not None


@dataclass
class Registers:
    """One thread's registers and predicates, and the constant bank that holds the kernel's arguments."""

    constants: dict[int, int]
    words: dict[str, Value] = field(default_factory=dict)
    predicates: dict[str, bool | None] = field(default_factory=dict)

    def get(self, operand: str, wide: bool = False) -> Value:
        """A source operand's 32 bits, or 64 where `wide`: a register, a constant or an integer; else None."""
        text = operand.removesuffix(".reuse").removesuffix(".64")
        if text[0] in "-~" and not _NUMBER.fullmatch(text):
            value = self.get(text[1:], wide)
            if value is None:
                return None
            mask = LONG if wide else WORD
            # -b is ~b + 1 and not reduced, so that a + -b carries out as the hardware's subtraction does
            return (value ^ mask) + (text[0] == "-")
        if _NUMBER.fullmatch(text):
            return int(text, 0) & (LONG if wide else WORD)
        if found := _CONSTANT.fullmatch(text):
            return self._both(*(self.constants.get(int(found[1], 0) + 4 * i) for i in range(1 + wide)))
        if found := _REGISTER.fullmatch(text):
            if found[2] == "Z":
                return 0
            first = int(found[2])
            return self._both(*(self.words.get(f"{found[1]}{first + i}") for i in range(1 + wide)))
        return None

    @staticmethod
    def _both(low: Value, high: Value = 0) -> Value:
        return None if low is None or high is None else low | high << 32

    def put(self, operand: str, value: Value, words: int = 1) -> None:
        """Sets a register, or `words` of them in a row to the parts of a longer value."""
        self.put_words(operand, [None if value is None else (value >> 32 * i) & WORD for i in range(words)])

    def put_words(self, operand: str, words: list[Value]) -> None:
        """Sets the registers from `operand` on."""
        found = _REGISTER.fullmatch(operand.removesuffix(".reuse").removesuffix(".64"))
        if found and found[2] != "Z":
            for i, word in enumerate(words):
                self.words[f"{found[1]}{int(found[2]) + i}"] = word

    def test(self, operand: str) -> bool | None:
        """A predicate operand, `!` included."""
        name = operand.removeprefix("!")
        value = True if name in ("PT", "UPT") else self.predicates.get(name)
        return None if value is None else value != operand.startswith("!")

    def mark(self, operand: str, value: bool | None) -> None:
        """Sets a predicate."""
        if operand not in ("PT", "UPT"):
            self.predicates[operand] = value

    def constant(self, operand: str, index: int) -> Value:
        """The `index`-th word from a constant operand on."""
        found = _CONSTANT.fullmatch(operand)
        return self.constants.get(int(found[1], 0) + 4 * index) if found else None
