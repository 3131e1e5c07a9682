"""What PTX instructions compute, on arrays with one element a lane: the arithmetic of `ptx_machine.py`.

Semantics as in NVIDIA's "PTX ISA" 9.x, chapter "Instruction Set". A register is a uint64 with its bits zero-extended, a
predicate 0 or 1. Whatever is not in these tables raises NotImplementedError: nothing is guessed.
"""

from collections.abc import Callable
import operator
import re

import numpy as np
from ptx_floats import Bits, Floats, decode, encode, fused, truncated_sum

Signed = np.ndarray[tuple[int, ...], np.dtype[np.int64]]
Operation = Callable[..., list[Bits]]
"""Source operands' bits -> the bits of every destination."""
TensorCoreSum = Callable[[Floats], Floats]
"""How a tensor core adds up the last axis."""

COMPARE = {"eq": operator.eq, "ne": operator.ne, "lt": operator.lt, "le": operator.le, "gt": operator.gt}
COMPARE |= {"ge": operator.ge}
LOGIC: dict[str, Callable[[Bits, Bits], Bits]] = {"and": operator.and_, "or": operator.or_, "xor": operator.xor}


def operation(opcode: str, tensor_core_sum: TensorCoreSum) -> Operation:
    """The function of an opcode that neither branches nor touches memory. Raises NotImplementedError."""
    name, *rest = opcode.split(".")
    kind = rest[-1] if rest else ""
    if name == "mma":
        return _mma(opcode, tensor_core_sum)
    if name == "cvt":
        return _cvt(rest)
    if name == "setp":
        return _setp(opcode, rest)
    if name == "selp":
        return lambda a, b, p: [np.where(p != 0, a, b)]
    if name == "mov":
        return lambda a: [a]
    if name == "prmt" and rest == ["b32"]:
        return lambda a, b, selector: [_prmt(a, b, selector)]
    if name == "lop3" and rest == ["b32"]:
        return lambda a, b, c, table: [_lop3(a, b, c, int(table.flat[0]))]
    if name in LOGIC:
        return lambda a, b: [LOGIC[name](a, b)]
    if name == "not":
        return lambda a: [~a & (_mask(1) if kind == "pred" else _mask(_bits(kind)))]
    if rest[:1] == ["rn"] and ".".join(rest[1:]) in ("f32", "f32x2", "f16x2", "bf16x2", "f32.bf16", "f32.f16"):
        return _arithmetic(name, rest[1:])
    if name == "add" and rest in (["s16x2"], ["u16x2"]):
        low, high = _mask(16), _mask(16) << np.uint64(16)
        return lambda a, b: [(a + b & low) | ((a & high) + (b & high) & high)]
    if re.fullmatch(r"[sub](16|32|64)", kind):
        return _integer(name, rest, kind)
    raise NotImplementedError(opcode)


def _mask(bits: int) -> np.uint64:
    return np.uint64((1 << bits) - 1)


def _bits(kind: str) -> int:
    return int(re.sub(r"\D", "", kind))


def signed(value: Bits, bits: int) -> Signed:
    """The low bits as two's complement."""
    shift = np.uint64(64 - bits)
    return (value << shift).view(np.int64) >> np.int64(64 - bits)


def _number(value: Bits, kind: str) -> Bits | Signed:
    return signed(value, _bits(kind)) if kind[0] == "s" else value & _mask(_bits(kind))


def _integer(name: str, how: list[str], kind: str) -> Operation:
    bits = _bits(kind)
    wide = "wide" in how
    kept = _mask(min(64, 2 * bits) if wide else bits)

    def run(*values: Bits) -> list[Bits]:
        numbers = [_number(value, kind) for value in values]
        a, b = numbers[0], numbers[1] if len(numbers) > 1 else numbers[0]
        match name:
            case "add":
                result = a + b
            case "sub":
                result = a - b
            case "neg":
                result = -a
            case "mul" if wide or "lo" in how:
                result = a * b
            case "mul" if "hi" in how and bits <= 32:
                result = (a * b) >> a.dtype.type(bits)
            case "mad" if wide:
                result = a * b + values[2].view(np.int64 if kind[0] == "s" else np.uint64)
            case "mad" if "lo" in how:
                result = a * b + numbers[2]
            case "min":
                result = np.minimum(a, b)
            case "max":
                result = np.maximum(a, b)
            case "shl" | "shr":
                far = values[1] & _mask(32)
                amount = np.minimum(far, np.uint64(63)).astype(a.dtype)
                result = a << amount if name == "shl" else a >> amount
                if kind[0] != "s" or name == "shl":  # a shift by the width or more leaves nothing
                    result = np.where(far >= np.uint64(bits), a.dtype.type(0), result)
            case "bfe":
                start, length = values[1] & _mask(8), values[2] & _mask(8)
                if kind != "u32" and (np.any(start + length > bits) or np.any(length == 0)):
                    raise NotImplementedError("bfe.s32 past the sign")
                field = np.where(start > 63, np.uint64(0), (values[0] & _mask(bits)) >> np.minimum(start, 63))
                field &= (np.uint64(1) << np.minimum(length, 63)) - np.uint64(1)
                shift = np.uint64(64) - np.maximum(length, 1)
                result = field if kind[0] != "s" else (field << shift).view(np.int64) >> shift.view(np.int64)
            case _:
                raise NotImplementedError(".".join([name, *how]))
        return [result.view(np.uint64) & kept]

    return run


def _setp(opcode: str, how: list[str]) -> Operation:
    relation, kind = how[0], how[-1]
    if kind == "f32" and relation in ("num", "nan"):
        want = relation == "nan"
        return lambda a, b: [
            ((np.isnan(decode(a, "f32")) | np.isnan(decode(b, "f32"))) == want).astype(np.uint64),
        ]
    if relation not in COMPARE or len(how) != 2:
        raise NotImplementedError(opcode)
    if kind == "f32":
        return lambda a, b: [
            (COMPARE[relation](decode(a, kind), decode(b, kind)) & ~np.isnan(decode(a, kind) + decode(b, kind))).astype(
                np.uint64
            )
        ]
    return lambda a, b: [COMPARE[relation](_number(a, kind), _number(b, kind)).astype(np.uint64)]


def _prmt(a: Bits, b: Bits, selector: Bits) -> Bits:
    source = (a & _mask(32)) | (b << np.uint64(32))
    result = np.zeros_like(source)
    for i in range(4):
        control = (selector >> np.uint64(4 * i)) & np.uint64(15)
        byte = (source >> ((control & np.uint64(7)) * np.uint64(8))) & np.uint64(255)
        sign = np.where(byte >= 128, np.uint64(255), np.uint64(0))
        result |= np.where(control >= 8, sign, byte) << np.uint64(8 * i)
    return result


def _lop3(a: Bits, b: Bits, c: Bits, table: int) -> Bits:
    result = np.zeros_like(a | b | c)
    for row in range(8):
        if table >> row & 1:
            result |= (a if row & 4 else ~a) & (b if row & 2 else ~b) & (c if row & 1 else ~c)
    return result & _mask(32)


def _halves(kind: str) -> tuple[str, int]:
    """The element type and the number of packed elements."""
    return (kind[:-2], 2) if kind.endswith("x2") else (kind, 1)


def _arithmetic(name: str, kinds: list[str]) -> Operation:
    """add, sub, mul, div and fma of one or two packed numbers; a mixed fma takes narrow factors and a float32 sum."""
    element, count = _halves(kinds[0])
    factor = kinds[-1] if len(kinds) > 1 else element
    step = {"f32": 32}.get(element, 16)

    def run(*values: Bits) -> list[Bits]:
        result = np.zeros_like(values[0])
        for i in range(count):
            parts = [value >> np.uint64(i * step) for value in values]
            a, b = decode(parts[0], factor), decode(parts[1], factor)
            with np.errstate(all="ignore"):
                match name:
                    case "fma":
                        exact = fused(a, b, decode(parts[2], element))
                    case "mul":
                        exact = a * b
                    case "add":
                        exact = fused(a, np.ones_like(a), b)
                    case "sub":
                        exact = fused(b, -np.ones_like(a), a)
                    case "div" if element == "f32":
                        # no quotient is so near the middle of two float32, nor of two shorter subnormals, that 53
                        # bits can't tell: a 24-bit number times a 25-bit one has 49
                        exact = a / b
                    case _:
                        raise NotImplementedError(".".join([name, "rn", *kinds]))
            result = result | encode(exact, element) << np.uint64(i * step)
        return [result]

    return run


def _cvt(how: list[str]) -> Operation:
    """Conversions; of two packed results the first operand, or the upper element, is the upper one."""
    to, source = how[-2:]
    element, _ = _halves(to)
    if re.fullmatch(r"[su](8|16|32|64)", to) and re.fullmatch(r"[su](8|16|32|64)", source):
        return lambda a: [_number(a, source).view(np.uint64) & _mask(_bits(to))]
    if how == ["f32", "f16"] or how == ["f32", "bf16"]:
        return lambda a: [encode(decode(a, source), "f32")]
    if source == "f32" and to in ("f16", "bf16") and how[:-2] == ["rn"]:
        return lambda a: [encode(decode(a, "f32"), to)]
    if source == "f32" and to in ("f16x2", "bf16x2") and how[:-2] == ["rn"]:
        return lambda a, b: [
            encode(decode(a, "f32"), element) << np.uint64(16) | encode(decode(b, "f32"), element),
        ]
    if source in ("e4m3x2", "e2m1x2") and to in ("f16x2", "bf16x2") and how[:-2] == ["rn"]:
        narrow, _ = _halves(source)
        step = np.uint64(8 if narrow == "e4m3" else 4)
        mask = _mask(int(step))
        return lambda a: [
            encode(decode(a >> step & mask, narrow), element) << np.uint64(16)
            | encode(decode(a & mask, narrow), element)
        ]
    raise NotImplementedError(".".join(["cvt", *how]))


def _mma(opcode: str, tensor_core_sum: TensorCoreSum) -> Operation:
    """D = A B + C of a warp: A 16 by 16 in rows, B 16 by 8 in columns; lane 4 g + t holds what the tables below say."""
    match = re.fullmatch(r"mma\.sync\.aligned\.m16n8k16\.row\.col\.f32\.(f16|bf16)\.\1\.f32", opcode)
    if match is None:
        raise NotImplementedError(opcode)
    lane = np.arange(32)
    g, t = lane // 4, lane % 4

    def run(*values: Bits) -> list[Bits]:
        shape = values[0].shape
        words = [value.reshape(-1, 32) for value in values]
        warps = len(words[0])
        a, b, c = np.zeros((warps, 16, 16)), np.zeros((warps, 16, 8)), np.zeros((warps, 16, 8))
        for half in range(2):
            shift = np.uint64(16 * half)
            for i in range(4):
                a[:, g + 8 * (i % 2), 2 * t + half + 8 * (i // 2)] = decode(words[i] >> shift, match[1])
            for i in range(2):
                b[:, 2 * t + half + 8 * i, g] = decode(words[4 + i] >> shift, match[1])
        for i in range(4):
            c[:, g + 8 * (i // 2), 2 * t + i % 2] = decode(words[6 + i], "f32")
        with np.errstate(all="ignore"):
            products = a[:, :, None, :] * b.transpose(0, 2, 1)[:, None, :, :]
            d = tensor_core_sum(np.concatenate([products, c[..., None]], axis=-1))
        bits = encode(d, "f32")
        return [bits[:, g + 8 * (i // 2), 2 * t + i % 2].reshape(shape) for i in range(4)]

    return run


def rounded_sum(addends: Floats) -> Floats:
    """The sum in float64, rounded once to float32: the best that a tensor core could do."""
    with np.errstate(all="ignore"):
        return addends.sum(axis=-1)


TENSOR_CORE_SUMS: dict[str, TensorCoreSum] = {"rounded": rounded_sum, "truncated": truncated_sum}
