"""Arithmetic on the sixteen-lane vectors of vector_ir.py, for use inside @njit functions.

splat(s), lane_numbers()      16 times s; uint32 0..15
v + w, v * w, v >> bits       lane by lane; uint32 wraps modulo 2^32; `bits` is an int
fma(v, w, u)                  v * w + u, fused where the CPU has it
to_float(v)                   uint32 below 2^31 -> float32
from_bf16(v)                  bfloat16 bits (uint16) -> float32, exactly
from_e4m3(v)                  E4M3FN bytes (uint8) -> float32, exactly; 0x7F and 0xFF -> NaN
to_bf16(v), to_f16(v)         float32 -> the bits of the nearest, ties to even; NaN stays NaN
to_bits(v)                    float32 -> its own bits
total(v)                      sum of the lanes by a fixed tree of depth 4
look_up(table, v)             table[v[lane]] among 16 uint8, in registers; every lane of v < 16
interleave(low, high)         lanes high << bits | low: uint8 -> uint16, uint16 -> uint32
"""

# ruff: noqa: ARG001, ARG005 (an intrinsic's parameters stand for types; not every type decides something)

import operator
from typing import Any

from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import config, types
from numba.extending import overload

from roofprobe.kernels.vector_ir import (
    F32,
    I8,
    I16,
    I32,
    LANES,
    U8,
    U16,
    U32,
    Vector,
    constant,
    declare,
    instruction,
)

_NAN = 0x7FC00000
_HALVES = ir.VectorType(ir.HalfType(), LANES)


def _words(value: int) -> Any:
    return constant(I32, [value] * LANES)


def _floats(value: float) -> Any:
    return ir.Constant(F32.llvm, [ir.Constant(ir.FloatType(), value)] * LANES)


def _spread(builder: Any, vector: Any, lanes: list[int]) -> Any:
    return builder.shuffle_vector(vector, vector, constant(I32, lanes))


def _each(builder: Any, scalar: Any) -> Any:
    one = ir.Constant(ir.VectorType(scalar.type, LANES), ir.Undefined)
    return _spread(builder, builder.insert_element(one, scalar, ir.Constant(I32, 0)), [0] * LANES)


@instruction
def splat(scalar: Any) -> Any:
    return Vector(scalar), (scalar,), lambda context, builder, value: _each(builder, value)


@instruction
def lane_numbers() -> Any:
    return U32, (), lambda context, builder: constant(I32, list(range(LANES)))


def _overload_operator(operation: Any, integer: str, floating: str) -> None:
    @instruction
    def combine(left: Any, right: Any) -> Any:
        name = floating if left.dtype == types.float32 else integer
        return left, (left, right), lambda context, builder, a, b: getattr(builder, name)(a, b)

    def choose(left: Any, right: Any) -> Any:
        if isinstance(left, Vector) and left == right:
            return lambda left, right: combine(left, right)
        return None

    overload(operation, strict=False)(choose)


_overload_operator(operator.add, "add", "fadd")
_overload_operator(operator.iadd, "add", "fadd")
_overload_operator(operator.mul, "mul", "fmul")


@instruction
def _shift_right(vector: Any, bits: Any) -> Any:
    def emit(context: Any, builder: Any, lanes: Any, count: Any) -> Any:
        return builder.lshr(lanes, _each(builder, builder.trunc(count, vector.llvm.element)))

    return vector, (vector, types.intp), emit


@overload(operator.rshift, strict=False)
def _choose_shift(vector: Any, bits: Any) -> Any:
    return (lambda vector, bits: _shift_right(vector, bits)) if isinstance(vector, Vector) else None


@instruction
def fma(left: Any, right: Any, addend: Any) -> Any:
    def emit(context: Any, builder: Any, a: Any, b: Any, c: Any) -> Any:
        # fmuladd, not fma: on a CPU without the instruction fma is sixteen calls of libm.
        kind = ir.FunctionType(F32.llvm, [F32.llvm] * 3)
        return builder.call(declare(builder, "llvm.fmuladd.v16f32", kind), [a, b, c])

    return F32, (F32, F32, F32), emit


@instruction
def to_float(vector: Any) -> Any:
    # Signed, because only AVX-512 converts unsigned integers.
    return F32, (U32,), lambda context, builder, lanes: builder.sitofp(lanes, F32.llvm)


@instruction
def from_bf16(bits: Any) -> Any:
    def emit(context: Any, builder: Any, halves: Any) -> Any:
        return builder.bitcast(builder.shl(builder.zext(halves, U32.llvm), _words(16)), F32.llvm)

    return F32, (U16,), emit


@instruction
def from_e4m3(vector: Any) -> Any:
    def by_halves(builder: Any, lanes: Any, is_nan: Any) -> Any:
        # As float16 the bits, moved to the same places, are the value / 2^8, subnormals included.
        spread = builder.shl(builder.sext(lanes, U16.llvm), constant(I16, [7] * LANES))
        moved = builder.and_(spread, constant(I16, [0xBF80] * LANES))
        moved = builder.select(is_nan, constant(I16, [0x7E00] * LANES), moved)
        return builder.fmul(builder.fpext(builder.bitcast(moved, _HALVES), F32.llvm), _floats(256.0))

    def by_words(builder: Any, lanes: Any, is_nan: Any) -> Any:
        wide = builder.zext(lanes, U32.llvm)
        sign = builder.shl(builder.and_(wide, _words(0x80)), _words(24))
        magnitude = builder.and_(wide, _words(0x7F))
        moved = builder.shl(magnitude, _words(20))
        normal = builder.add(moved, _words(120 << 23))
        # Not as a float32 subnormal times 2^120: many CPUs take a hundred cycles over one.
        with_one = builder.bitcast(builder.add(moved, _words(121 << 23)), F32.llvm)
        subnormal = builder.bitcast(builder.fsub(with_one, _floats(2.0**-6)), U32.llvm)
        word = builder.select(builder.icmp_unsigned("<", magnitude, _words(8)), subnormal, normal)
        word = builder.select(is_nan, _words(_NAN), word)
        return builder.bitcast(builder.or_(word, sign), F32.llvm)

    def emit(context: Any, builder: Any, lanes: Any) -> Any:
        without_sign = builder.or_(lanes, constant(I8, [0x80] * LANES))
        is_nan = builder.icmp_unsigned("==", without_sign, constant(I8, [0xFF] * LANES))
        return (by_halves if converts_halves(builder.module.triple) else by_words)(builder, lanes, is_nan)

    return F32, (U8,), emit


@instruction
def to_bf16(vector: Any) -> Any:
    def emit(context: Any, builder: Any, lanes: Any) -> Any:
        # With integers: AVX-512's own conversion flushes subnormals.
        word = builder.bitcast(lanes, U32.llvm)
        odd = builder.and_(builder.lshr(word, _words(16)), _words(1))
        nearest = builder.add(builder.add(word, _words(0x7FFF)), odd)
        nearest = builder.select(builder.fcmp_unordered("uno", lanes, lanes), _words(_NAN), nearest)
        return builder.trunc(builder.lshr(nearest, _words(16)), U16.llvm)

    return U16, (F32,), emit


@instruction
def to_f16(vector: Any) -> Any:
    def by_words(builder: Any, lanes: Any) -> Any:
        word = builder.bitcast(lanes, U32.llvm)
        magnitude = builder.and_(word, _words(0x7FFFFFFF))
        odd = builder.and_(builder.lshr(magnitude, _words(13)), _words(1))
        rebased = builder.sub(magnitude, _words(112 << 23))
        nearest = builder.lshr(builder.add(builder.add(rebased, _words(0xFFF)), odd), _words(13))
        # 0.5 and a float16 subnormal end at the same bit, 2^-24: the sum rounds, and its low bits are the result.
        with_half = builder.fadd(builder.bitcast(magnitude, F32.llvm), _floats(0.5))
        subnormal = builder.sub(builder.bitcast(with_half, U32.llvm), _words(126 << 23))
        nearest = builder.select(builder.icmp_unsigned("<", magnitude, _words(113 << 23)), subnormal, nearest)
        nearest = builder.select(builder.icmp_unsigned(">=", magnitude, _words(143 << 23)), _words(0x7C00), nearest)
        nearest = builder.select(builder.icmp_unsigned(">", magnitude, _words(255 << 23)), _words(0x7E00), nearest)
        sign = builder.and_(builder.lshr(word, _words(16)), _words(0x8000))
        return builder.trunc(builder.or_(nearest, sign), U16.llvm)

    def emit(context: Any, builder: Any, lanes: Any) -> Any:
        if converts_halves(builder.module.triple):
            return builder.bitcast(builder.fptrunc(lanes, _HALVES), U16.llvm)
        return by_words(builder, lanes)

    return U16, (F32,), emit


@instruction
def to_bits(vector: Any) -> Any:
    return U32, (F32,), lambda context, builder, lanes: builder.bitcast(lanes, U32.llvm)


@instruction
def total(vector: Any) -> Any:
    def emit(context: Any, builder: Any, lanes: Any) -> Any:
        add = builder.fadd if vector == F32 else builder.add
        for width in (8, 4, 2, 1):
            lanes = add(lanes, _spread(builder, lanes, [(lane + width) % LANES for lane in range(LANES)]))
        return builder.extract_element(lanes, ir.Constant(I32, 0))

    return vector.dtype, (vector,), emit


@instruction
def interleave(low: Any, high: Any) -> Any:
    wide = {U8: U16, U16: U32}.get(low)
    if wide is None:
        return None

    def emit(context: Any, builder: Any, lows: Any, highs: Any) -> Any:
        if is_arm(builder.module.triple):
            # As arithmetic: LLVM would merge a shuffle into the store behind it, as st2, which is never non-temporal.
            width = constant(wide.llvm.element, [low.dtype.bitwidth] * LANES)
            return builder.or_(builder.zext(lows, wide.llvm), builder.shl(builder.zext(highs, wide.llvm), width))
        order = [half * LANES + lane for lane in range(LANES) for half in range(2)]
        return builder.bitcast(builder.shuffle_vector(lows, highs, constant(I32, order)), wide.llvm)

    return wide, (low, low), emit


def _features() -> set[str]:
    return {name for name, present in get_host_cpu_features().items() if present}


def _is_native() -> bool:
    return config.CPU_NAME is None  # else NUMBA_CPU_NAME asks for code that older machines run too


def is_arm(triple: str) -> bool:
    return triple.startswith(("aarch64", "arm64"))


def converts_halves(triple: str) -> bool:
    """Whether the machine that numba compiles for has float16 conversions.

    Where it has not, LLVM calls functions that numba lacks, and the process crashes.
    """
    return is_arm(triple) or (triple.startswith("x86_64") and _is_native() and "f16c" in _features())


def shuffle_instruction(triple: str) -> str:
    """LLVM's name for the byte look-up of the machine that numba compiles for; "" where it has none."""
    if is_arm(triple):
        return "llvm.aarch64.neon.tbl1.v16i8"
    if triple.startswith("x86_64") and _is_native() and "ssse3" in _features():
        return "llvm.x86.ssse3.pshuf.b.128"
    return ""


@instruction
def look_up(table: Any, lanes: Any) -> Any:
    def emit(context: Any, builder: Any, entries: Any, numbers: Any) -> Any:
        name = shuffle_instruction(builder.module.triple)
        if name:
            kind = ir.FunctionType(U8.llvm, [U8.llvm, U8.llvm])
            return builder.call(declare(builder, name, kind), [entries, numbers])
        result = ir.Constant(U8.llvm, ir.Undefined)
        for lane in (ir.Constant(I32, i) for i in range(LANES)):
            entry = builder.extract_element(entries, builder.extract_element(numbers, lane))
            result = builder.insert_element(result, entry, lane)
        return result

    return U8, (U8, U8), emit
