"""What the integer instructions of SASS compute, on Python integers.

Only what addresses are made of: additions with carry, multiplications, shifts, selections, comparisons. An instruction
that is not here has an unknown result, so a wrong reading can't pass for a right address.
"""

from collections.abc import Callable, Sequence
import operator
import re
import struct

from roofprobe.kernels.sass_registers import LONG, WORD, Registers, Value, is_predicate

_COMPARE: dict[str, Callable[[int, int], bool]] = {
    "LT": operator.lt,
    "LE": operator.le,
    "GT": operator.gt,
    "GE": operator.ge,
    "EQ": operator.eq,
    "NE": operator.ne,
}


def signed(value: int, bits: int = 32) -> int:
    """The low `bits` of `value` as a two's complement number."""
    value &= (1 << bits) - 1
    return value - ((value >> (bits - 1)) << bits)


def execute(opcode: str, operands: Sequence[str], registers: Registers) -> None:
    """Runs one instruction that neither branches nor touches memory."""
    name, *modifiers = opcode.split(".")
    handler = _HANDLERS.get(name) or _HANDLERS.get(name.removeprefix("U")) or _unknown
    handler(registers, modifiers, list(operands))


def _split(operands: list[str]) -> tuple[list[str], str, list[str], list[str]]:
    """(predicates written, destination, sources, predicates read) of most integer instructions."""
    places = [i for i, operand in enumerate(operands) if not is_predicate(operand)]
    first, last = places[0], places[-1]
    outputs = operands[:first]
    rest = operands[first + 1 : last + 1]
    while rest and is_predicate(rest[0]):
        outputs.append(rest.pop(0))
    return outputs, operands[first], rest, operands[last + 1 :]


def _unknown(registers: Registers, modifiers: list[str], operands: list[str]) -> None:
    """Forgets what the instruction writes: the predicates in front of its first source, and its first register."""
    for operand in operands:
        if not is_predicate(operand):
            registers.put(operand, None, 2 if "64" in modifiers else 1)
            break
        registers.mark(operand.removeprefix("!"), None)
    for operand in operands[1:2]:
        if is_predicate(operand) and not operand.startswith("!"):
            registers.mark(operand, None)


def _add(registers: Registers, modifiers: list[str], operands: list[str]) -> None:
    outputs, target, sources, inputs = _split(operands)
    wide = "64" in modifiers
    values = [registers.get(source, wide) for source in sources]
    if "X" in modifiers:
        values += [registers.test(predicate) for predicate in inputs]
    total = None if None in values else sum(value for value in values if value is not None)
    _carry(registers, outputs, total, 64 if wide else 32)
    registers.put(target, total, 1 + wide)


def _carry(registers: Registers, outputs: list[str], total: Value, bits: int) -> None:
    for i, output in enumerate(outputs):
        registers.mark(output, None if total is None else total >> bits > i)


def _multiply(registers: Registers, modifiers: list[str], operands: list[str]) -> None:
    outputs, target, sources, inputs = _split(operands)
    wide = "WIDE" in modifiers or "HI" in modifiers
    a, b, c = registers.get(sources[0]), registers.get(sources[1]), registers.get(sources[2], wide)
    total = None
    if a is not None and b is not None and c is not None:
        total = a * b + c if "U32" in modifiers else signed(a) * signed(b) + c
        carry = registers.test(inputs[0]) if "X" in modifiers and inputs else False
        total = None if carry is None else total + carry
    if "HI" in modifiers:
        registers.put(target, None if total is None else (total & LONG) >> 32)
    else:
        _carry(registers, outputs, total, 64 if wide else 32)
        registers.put(target, total, 1 + wide)


def _scaled_add(registers: Registers, modifiers: list[str], operands: list[str]) -> None:
    """LEA: (a << shift) + b; HI: the upper word of c:a shifted, plus b; SX32: c is a's sign."""
    outputs, target, sources, inputs = _split(operands)
    a, b, shift = registers.get(sources[0]), registers.get(sources[1]), registers.get(sources[-1])
    high = registers.get(sources[2]) if len(sources) == 4 else 0
    carry = registers.test(inputs[0]) if "X" in modifiers and inputs else False
    total = None
    if a is not None and b is not None and shift is not None and high is not None and carry is not None:
        long = signed(a) if "SX32" in modifiers else a | high << 32
        term = (long << shift) >> 32 if "HI" in modifiers else long << shift
        total = (term & WORD) + b + carry
    _carry(registers, outputs, total, 32)
    registers.put(target, total)


def _shift(registers: Registers, modifiers: list[str], operands: list[str]) -> None:
    """SHF: the funnel c:a shifted left or right; its upper word with HI, else its lower one."""
    target, low, by, high = operands[0], *(registers.get(operand) for operand in operands[1:4])
    value = None
    if low is not None and by is not None and high is not None:
        by = by & 63 if "64" in modifiers or "U64" in modifiers or "S64" in modifiers else min(by, 32)
        long = low | high << 32
        if "S32" in modifiers or "S64" in modifiers:
            long = signed(long, 64)
        long = long << by if modifiers[0] == "L" else long >> by
        value = (long >> 32 if "HI" in modifiers else long) & WORD
    registers.put(target, value)


def _logic(registers: Registers, _modifiers: list[str], operands: list[str]) -> None:
    """LOP3: a truth table of three words; its predicate output says whether any bit is set."""
    outputs, target, sources, _ = _split(operands)
    a, b, c, table = (registers.get(source) for source in sources)
    value = None
    if a is not None and b is not None and c is not None and table is not None:
        value = 0
        for i in range(8):
            if table >> i & 1:
                value |= (a if i & 4 else ~a) & (b if i & 2 else ~b) & (c if i & 1 else ~c)
        value &= WORD
    for output in outputs:
        registers.mark(output, None if value is None else value != 0)
    registers.put(target, value)


def _compare(registers: Registers, modifiers: list[str], operands: list[str]) -> None:
    outputs, rest = operands[:2], operands[2:]
    bits = 64 if "U64" in modifiers or "S64" in modifiers else 32
    a, b = (registers.get(operand, bits == 64) for operand in rest[:2])
    inputs = [registers.test(operand) for operand in rest[2:]]
    result: bool | None = None
    if a is not None and b is not None and None not in inputs:
        if "U32" not in modifiers and "U64" not in modifiers:
            a, b = signed(a, bits), signed(b, bits)
        result = _COMPARE[modifiers[0]](a, b)
        if "EX" in modifiers and (a == b):  # the lower words' answer decides
            result = inputs[-1]
        combine = inputs[0]
        result = bool(result and combine) if "AND" in modifiers else bool(result or combine)
    registers.mark(outputs[0], result)
    registers.mark(outputs[1], None if result is None else not result)


def _select(registers: Registers, modifiers: list[str], operands: list[str]) -> None:
    wide = "64" in modifiers
    chosen = registers.test(operands[3])
    value = None if chosen is None else registers.get(operands[1 if chosen else 2], wide)
    registers.put(operands[0], value, 1 + wide)


def _extreme(registers: Registers, modifiers: list[str], operands: list[str]) -> None:
    """The smaller of two where the predicate holds, else the larger."""
    _, target, sources, inputs = _split(operands)
    wide = "S64" in modifiers or "U64" in modifiers
    a, b, smaller = registers.get(sources[0], wide), registers.get(sources[1], wide), registers.test(inputs[0])
    value = None
    if a is not None and b is not None and smaller is not None:
        if "U32" not in modifiers and "U64" not in modifiers:
            a, b = signed(a, 64 if wide else 32), signed(b, 64 if wide else 32)
        value = min(a, b) if smaller else max(a, b)
    registers.put(target, value, 1 + wide)


def _add_extreme(registers: Registers, modifiers: list[str], operands: list[str]) -> None:
    """VIADDMNMX: a + b, wrapped, or c, whichever is smaller (larger without the predicate)."""
    target, a, b, c, smaller = operands
    _add(registers, [], [target, a, b])
    _extreme(registers, modifiers, [target, target, c, smaller])


def _permute(registers: Registers, modifiers: list[str], operands: list[str]) -> None:
    a, selector, c = (registers.get(operand) for operand in operands[1:4])
    value = None
    if a is not None and selector is not None and c is not None and not modifiers:
        long, value = a | c << 32, 0
        for i in range(4):
            pick = selector >> 4 * i & 0xF
            byte = long >> 8 * (pick & 7) & 0xFF
            value |= (0xFF * (byte >> 7) if pick & 8 else byte) << 8 * i
    registers.put(operands[0], value)


def _extend(registers: Registers, modifiers: list[str], operands: list[str]) -> None:
    a, bits = registers.get(operands[1]), registers.get(operands[2])
    value = None
    if a is not None and bits is not None:
        value = a & ((1 << bits) - 1) if "U32" in modifiers else signed(a, bits)
    registers.put(operands[0], value)


def _move(registers: Registers, modifiers: list[str], operands: list[str]) -> None:
    wide = "64" in modifiers
    sources = [operand for operand in operands[1:] if not is_predicate(operand)]
    registers.put(operands[0], registers.get(sources[0], wide), 1 + wide)


def _load_constant(registers: Registers, modifiers: list[str], operands: list[str]) -> None:
    words = [
        registers.constant(operands[1], i) for i in range(4 if "128" in modifiers else 2 if "64" in modifiers else 1)
    ]
    registers.put_words(operands[0], words)


def _clear(registers: Registers, modifiers: list[str], operands: list[str]) -> None:
    known = 0 if operands[1] == "SRZ" else None
    registers.put(operands[0], known, 1 if "32" in modifiers else 2)


def _half_constant(registers: Registers, modifiers: list[str], operands: list[str]) -> None:
    """HFMA2 R5, -RZ, RZ, 0, 1.875: a constant as two halves, upper first, written by the idle FP16 pipe."""
    value = None
    if [operand.strip("-") for operand in operands[1:3]] == ["RZ", "RZ"] and len(operands) == 5:
        upper, lower = (_half_bits(operand, any(m.startswith("BF16") for m in modifiers)) for operand in operands[3:])
        value = None if upper is None or lower is None else upper << 16 | lower
    registers.put(operands[0], value)


def _half_bits(number: str, bfloat16: bool) -> Value:
    if not re.fullmatch(r"-?[\d.]+(e[-+]?\d+)?", number):
        return None
    packed = struct.pack(">f", float(number))[:2] if bfloat16 else struct.pack(">e", float(number))
    return int.from_bytes(packed, "big")


def _predicate_logic(registers: Registers, _modifiers: list[str], operands: list[str]) -> None:
    inputs = [registers.test(operand) for operand in operands[2:5]]
    for output, table in zip(operands[:2], operands[5:7]):
        if None in inputs:
            registers.mark(output, None)
        else:
            index = sum(bool(value) << (2 - i) for i, value in enumerate(inputs))
            registers.mark(output, bool(int(table, 0) >> index & 1))


def _pack(registers: Registers, modifiers: list[str], operands: list[str]) -> None:
    """P2R R4, PR, R5, 0x41: where the mask has ones, P0 to P6 as bits; elsewhere R5."""
    value = None
    rest, mask = registers.get(operands[2]), registers.get(operands[3])
    if not modifiers and operands[1] == "PR" and rest is not None and mask is not None:
        bits = [registers.test(f"P{i}") if mask >> i & 1 else False for i in range(7)]
        value = None if None in bits else rest & ~mask | sum(bool(bit) << i for i, bit in enumerate(bits))
    registers.put(operands[0], value)


_HANDLERS: dict[str, Callable[[Registers, list[str], list[str]], None]] = {
    "IADD": _add,
    "IADD3": _add,
    "VIADD": _add,
    "IMAD": _multiply,
    "LEA": _scaled_add,
    "SHF": _shift,
    "LOP3": _logic,
    "ISETP": _compare,
    "SEL": _select,
    "IMNMX": _extreme,
    "VIMNMX": _extreme,
    "VIADDMNMX": _add_extreme,
    "PRMT": _permute,
    "SGXT": _extend,
    "MOV": _move,
    "R2UR": _move,
    "LDC": _load_constant,
    "ULDC": _load_constant,
    "LDCU": _load_constant,
    "CS2R": _clear,
    "PLOP3": _predicate_logic,
    "P2R": _pack,
    "HFMA2": _half_constant,
}
