"""Arithmetic on the sixteen-lane vectors of vector_ir.py, for use inside @njit functions.

splat(s), lane_numbers()      16 times s; uint32 0..15
v + w, v * w, v >> bits       lane by lane; uint32 wraps modulo 2^32; `bits` is an int
fma(v, w, u)                  v * w + u, fused where the CPU has it
to_float(v)                   uint32 below 2^31 -> float32
from_bf16(v)                  bfloat16 bits (uint16, a vector or one) -> float32, exactly
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

from roofprobe.kernels.vector_ir import F32, I32, LANES, U8, U16, U32, Vector, constant, declare, instruction


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
    wide, result = (U32.llvm, F32) if isinstance(bits, Vector) else (I32, types.float32)

    def emit(context: Any, builder: Any, halves: Any) -> Any:
        sixteen = ir.Constant(I32, 16) if wide is I32 else constant(I32, [16] * LANES)
        return builder.bitcast(builder.shl(builder.zext(halves, wide), sixteen), result_llvm)

    result_llvm = F32.llvm if isinstance(bits, Vector) else ir.FloatType()
    return result, (bits if isinstance(bits, Vector) else types.uint16,), emit


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


def is_arm(triple: str) -> bool:
    return triple.startswith(("aarch64", "arm64"))


def shuffle_instruction(triple: str) -> str:
    """LLVM's name for the byte look-up of the machine that numba compiles for; "" where it has none."""
    if is_arm(triple):
        return "llvm.aarch64.neon.tbl1.v16i8"
    native = config.CPU_NAME is None  # else NUMBA_CPU_NAME asks for code that older machines run too
    if triple.startswith("x86_64") and native and get_host_cpu_features().get("ssse3"):
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
