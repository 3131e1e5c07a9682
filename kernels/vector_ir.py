"""Sixteen-lane vectors, non-temporal stores and atomics for numba kernels, written straight as LLVM IR.

numba's vectorizer never emits a non-temporal store, and an ordinary store first reads the line that it overwrites
(write-allocate): a third of a copy's traffic. The intrinsics here put the vector width and the store policy into the
source. Every vector has 16 lanes: 64 bytes of float32, 32 of uint16, 16 of uint8, and exactly one NVFP4 block.
LLVM splits them into what the CPU has: one AVX-512, two AVX2 or four NEON registers of float32.

Inside an @njit function, with 1-D C-contiguous arrays and indices in elements:

    load(a, i)                    16 elements of `a` from i; any alignment
    store(a, i, v)                the same, written; any alignment
    stream(a, i, v)               non-temporal store; &a[i] must be a multiple of the vector's bytes
    splat(s), lane_numbers()      16 times s; uint32 0..15
    v + w, v * w, v >> bits       lane by lane; uint32 wraps modulo 2^32; `bits` is an int constant
    fma(v, w, u)                  v * w + u, fused where the CPU has it
    to_float(v)                   uint32 below 2^31 -> float32
    from_bf16(v)                  bfloat16 bits (uint16, a vector or one) -> float32, exactly
    total(v)                      sum of the lanes by a fixed tree of depth 4
    load_nibbles(a, i)            8 bytes of `a` -> 16 uint8; element 2j from the low half of byte j
    look_up(table, v)             table[v[lane]] among 16 uint8, in registers; every lane of v < 16
    interleave(low, high)         lanes high << bits | low: uint8 -> uint16, uint16 -> uint32
    fetch_add(a, i, amount)       atomic a[i] += amount; returns the old value
    fence()                       orders everything before it, non-temporal stores included, before all after it
    address(a)                    of the first element, in bytes
    pin_to(cpu)                   the calling thread runs on that CPU from now on (Linux; elsewhere nothing)
"""

from collections.abc import Callable
import inspect
import operator
import sys
from typing import Any, cast

from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import config, types
from numba.extending import intrinsic, models, overload, register_model

LANES = 16
_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))


class Vector(types.Type):  # type: ignore[misc]  # numba is untyped
    """The numba type of 16 lanes of `dtype`: float32, uint32, uint16 or uint8."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        super().__init__(name=f"vector16({dtype})")

    @property
    def llvm(self) -> Any:
        element = ir.FloatType() if self.dtype == types.float32 else ir.IntType(self.dtype.bitwidth)
        return ir.VectorType(element, LANES)


F32, U32, U16, U8 = (Vector(dtype) for dtype in (types.float32, types.uint32, types.uint16, types.uint8))


class _VectorModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, vector: Vector) -> None:
        super().__init__(manager, vector, vector.llvm)


register_model(Vector)(_VectorModel)


def _instruction(choose: Callable[..., Any]) -> Callable[..., Any]:
    """Make an intrinsic of `choose(*argument types) -> (result, parameters, emit(context, builder, *values))`."""

    def typer(_typing: Any, *arguments: Any) -> Any:
        choice = choose(*arguments)
        if choice is None:
            return None
        result, parameters, emit = choice
        return result(*parameters), lambda context, builder, _signature, values: emit(context, builder, *values)

    typing = inspect.Parameter("typing", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = [typing, *inspect.signature(choose).parameters.values()]
    typer.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    typer.__name__ = choose.__name__
    return cast("Callable[..., Any]", intrinsic(typer))


def _constant(element: Any, values: list[int]) -> Any:
    return ir.Constant(ir.VectorType(element, len(values)), [ir.Constant(element, value) for value in values])


def _spread(builder: Any, vector: Any, lanes: list[int]) -> Any:
    return builder.shuffle_vector(vector, vector, _constant(_I32, lanes))


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any, llvm: Any = None) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    pointer = builder.gep(data, [index])
    return builder.bitcast(pointer, llvm.as_pointer()) if llvm else pointer


def _is_flat(array: Any) -> bool:
    return isinstance(array, types.Array) and array.ndim == 1 and array.layout == "C"


# Memory


@_instruction
def load(array: Any, index: Any) -> Any:
    if not _is_flat(array):
        return None
    vector = Vector(array.dtype)

    def emit(context: Any, builder: Any, values: Any, at: Any) -> Any:
        pointer = _pointer(context, builder, array, values, at, vector.llvm)
        return builder.load(pointer, align=array.dtype.bitwidth // 8)

    return vector, (array, types.intp), emit


@_instruction
def load_nibbles(array: Any, index: Any) -> Any:
    if not _is_flat(array) or array.dtype != types.uint8:
        return None

    def emit(context: Any, builder: Any, values: Any, at: Any) -> Any:
        eight = ir.VectorType(_I8, 8)
        pairs = builder.load(_pointer(context, builder, array, values, at, eight), align=1)
        low = builder.and_(pairs, _constant(_I8, [15] * 8))
        high = builder.lshr(pairs, _constant(_I8, [4] * 8))
        order = [half * 8 + pair for pair in range(8) for half in range(2)]
        return builder.shuffle_vector(low, high, _constant(_I32, order))

    return U8, (array, types.intp), emit


def _store(array: Any, vector: Any, temporal: bool) -> Any:
    if not _is_flat(array) or not isinstance(vector, Vector) or array.dtype != vector.dtype:
        return None
    element_bytes = array.dtype.bitwidth // 8

    def emit(context: Any, builder: Any, values: Any, at: Any, lanes: Any) -> Any:
        pointer = _pointer(context, builder, array, values, at, vector.llvm)
        instruction = builder.store(lanes, pointer, align=element_bytes * (1 if temporal else LANES))
        if not temporal:
            instruction.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(_I32, 1)]))
        return context.get_dummy_value()

    return types.none, (array, types.intp, vector), emit


@_instruction
def store(array: Any, index: Any, vector: Any) -> Any:
    return _store(array, vector, temporal=True)


@_instruction
def stream(array: Any, index: Any, vector: Any) -> Any:
    return _store(array, vector, temporal=False)


@_instruction
def address(array: Any) -> Any:
    def emit(context: Any, builder: Any, values: Any) -> Any:
        return builder.ptrtoint(context.make_array(array)(context, builder, values).data, _I64)

    return types.int64, (array,), emit


@_instruction
def fetch_add(array: Any, index: Any, amount: Any) -> Any:
    if not _is_flat(array) or not isinstance(array.dtype, types.Integer):
        return None

    def emit(context: Any, builder: Any, values: Any, at: Any, addend: Any) -> Any:
        return builder.atomic_rmw("add", _pointer(context, builder, array, values, at), addend, "monotonic")

    return array.dtype, (array, types.intp, array.dtype), emit


@_instruction
def fence() -> Any:
    def emit(context: Any, builder: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.none, (), emit


# Arithmetic


def _each(builder: Any, scalar: Any) -> Any:
    one = ir.Constant(ir.VectorType(scalar.type, LANES), ir.Undefined)
    return _spread(builder, builder.insert_element(one, scalar, ir.Constant(_I32, 0)), [0] * LANES)


@_instruction
def splat(scalar: Any) -> Any:
    return Vector(scalar), (scalar,), lambda context, builder, value: _each(builder, value)


@_instruction
def lane_numbers() -> Any:
    return U32, (), lambda context, builder: _constant(_I32, list(range(LANES)))


def _overload_operator(operation: Any, integer: str, floating: str) -> None:
    @_instruction
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


@_instruction
def _shift_right(vector: Any, bits: Any) -> Any:
    def emit(context: Any, builder: Any, lanes: Any, count: Any) -> Any:
        return builder.lshr(lanes, _each(builder, builder.trunc(count, vector.llvm.element)))

    return vector, (vector, types.intp), emit


@overload(operator.rshift, strict=False)  # type: ignore[untyped-decorator]
def _choose_shift(vector: Any, bits: Any) -> Any:
    return (lambda vector, bits: _shift_right(vector, bits)) if isinstance(vector, Vector) else None


@_instruction
def fma(left: Any, right: Any, addend: Any) -> Any:
    def emit(context: Any, builder: Any, a: Any, b: Any, c: Any) -> Any:
        # fmuladd, not fma: on a CPU without the instruction fma is sixteen calls of libm.
        kind = ir.FunctionType(F32.llvm, [F32.llvm] * 3)
        return builder.call(_declare(builder, "llvm.fmuladd.v16f32", kind), [a, b, c])

    return F32, (F32, F32, F32), emit


@_instruction
def to_float(vector: Any) -> Any:
    # Signed, because only AVX-512 converts unsigned integers.
    return F32, (U32,), lambda context, builder, lanes: builder.sitofp(lanes, F32.llvm)


@_instruction
def from_bf16(bits: Any) -> Any:
    wide, result = (U32.llvm, F32) if isinstance(bits, Vector) else (_I32, types.float32)

    def emit(context: Any, builder: Any, halves: Any) -> Any:
        sixteen = ir.Constant(_I32, 16) if wide is _I32 else _constant(_I32, [16] * LANES)
        return builder.bitcast(builder.shl(builder.zext(halves, wide), sixteen), result_llvm)

    result_llvm = F32.llvm if isinstance(bits, Vector) else ir.FloatType()
    return result, (bits if isinstance(bits, Vector) else types.uint16,), emit


@_instruction
def total(vector: Any) -> Any:
    def emit(context: Any, builder: Any, lanes: Any) -> Any:
        add = builder.fadd if vector == F32 else builder.add
        for width in (8, 4, 2, 1):
            lanes = add(lanes, _spread(builder, lanes, [(lane + width) % LANES for lane in range(LANES)]))
        return builder.extract_element(lanes, ir.Constant(_I32, 0))

    return vector.dtype, (vector,), emit


@_instruction
def interleave(low: Any, high: Any) -> Any:
    wide = {U8: U16, U16: U32}.get(low)
    if wide is None:
        return None

    def emit(context: Any, builder: Any, lows: Any, highs: Any) -> Any:
        if is_arm(builder.module.triple):
            # As arithmetic: LLVM would merge a shuffle into the store behind it, as st2, which is never non-temporal.
            width = _constant(wide.llvm.element, [low.dtype.bitwidth] * LANES)
            return builder.or_(builder.zext(lows, wide.llvm), builder.shl(builder.zext(highs, wide.llvm), width))
        order = [half * LANES + lane for lane in range(LANES) for half in range(2)]
        return builder.bitcast(builder.shuffle_vector(lows, highs, _constant(_I32, order)), wide.llvm)

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


@_instruction
def look_up(table: Any, lanes: Any) -> Any:
    def emit(context: Any, builder: Any, entries: Any, numbers: Any) -> Any:
        name = shuffle_instruction(builder.module.triple)
        if name:
            kind = ir.FunctionType(U8.llvm, [U8.llvm, U8.llvm])
            return builder.call(_declare(builder, name, kind), [entries, numbers])
        result = ir.Constant(U8.llvm, ir.Undefined)
        for lane in (ir.Constant(_I32, i) for i in range(LANES)):
            entry = builder.extract_element(entries, builder.extract_element(numbers, lane))
            result = builder.insert_element(result, entry, lane)
        return result

    return U8, (U8, U8), emit


# The machine


def _declare(builder: Any, name: str, kind: Any) -> Any:
    return builder.module.globals.get(name) or ir.Function(builder.module, kind, name)


@_instruction
def pin_to(cpu: Any) -> Any:
    def emit(context: Any, builder: Any, number: Any) -> Any:
        if sys.platform == "linux":
            mask_type = ir.VectorType(_I64, 128)  # 8192 CPUs
            mask = builder.alloca(mask_type)
            builder.store(ir.Constant(mask_type, None), mask)
            word = builder.gep(builder.bitcast(mask, _I64.as_pointer()), [builder.lshr(number, ir.Constant(_I64, 6))])
            bit = builder.shl(ir.Constant(_I64, 1), builder.and_(number, ir.Constant(_I64, 63)))
            builder.store(bit, word)
            bytes_pointer = _I8.as_pointer()
            kind = ir.FunctionType(_I32, [_I32, _I64, bytes_pointer])
            here, size = ir.Constant(_I32, 0), ir.Constant(_I64, 1024)
            set_affinity = _declare(builder, "sched_setaffinity", kind)
            builder.call(set_affinity, [here, size, builder.bitcast(mask, bytes_pointer)])
        return context.get_dummy_value()

    return types.none, (types.int64,), emit
