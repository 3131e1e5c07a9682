"""Sixteen-lane vectors, non-temporal stores and atomics for numba kernels, written straight as LLVM IR.

numba's vectorizer never emits a non-temporal store, and an ordinary store first reads the line that it overwrites
(write-allocate): a third of a copy's traffic. The intrinsics here put the vector width and the store policy into the
source. Every vector has 16 lanes: 64 bytes of float32, 32 of uint16, 16 of uint8, and exactly one NVFP4 block.
LLVM splits them into what the CPU has: one AVX-512, two AVX2 or four NEON registers of float32.

Inside an @njit function, with 1-D C-contiguous arrays and indices in elements:

    load(a, i)                    16 elements of `a` from i; any alignment
    store(a, i, v)                the same, written; any alignment
    stream(a, i, v)               non-temporal store; &a[i] must be a multiple of the vector's bytes
    load_first(a, i, n)           elements i to i + n - 1 of `a`, then zeros; n from 0 to 16; touches no others
    store_first(a, i, v, n)       the first n lanes written; touches no other elements
    load_nibbles(a, i)            8 bytes of `a` -> 16 uint8; element 2j from the low half of byte j
    fetch_add(a, i, amount)       atomic a[i] += amount; returns the old value
    fence()                       orders everything before it, non-temporal stores included, before all after it
    address(a)                    of the first element, in bytes
    pin_to(cpu)                   the calling thread runs on that CPU from now on (Linux; elsewhere nothing)

Arithmetic on the vectors is in vector_math.py.
"""

# ruff: noqa: ARG001 (an intrinsic's parameters stand for types; not every type decides something)

from collections.abc import Callable
import inspect
import sys
from typing import Any, cast

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, register_model

LANES = 16
I8, I16, I32, I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))


class Vector(types.Type):
    """The numba type of 16 lanes of `dtype`: float32, uint32, uint16 or uint8."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        super().__init__(name=f"vector16({dtype})")

    @property
    def llvm(self) -> Any:
        element = ir.FloatType() if self.dtype == types.float32 else ir.IntType(self.dtype.bitwidth)
        return ir.VectorType(element, LANES)


F32, U32, U16, U8 = (Vector(dtype) for dtype in (types.float32, types.uint32, types.uint16, types.uint8))


class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, vector: Vector) -> None:
        models.PrimitiveModel.__init__(self, manager, vector, vector.llvm)


register_model(Vector)(_VectorModel)


def instruction(choose: Callable[..., Any]) -> Callable[..., Any]:
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


def constant(element: Any, values: list[int]) -> Any:
    return ir.Constant(ir.VectorType(element, len(values)), [ir.Constant(element, value) for value in values])


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any, llvm: Any = None) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    pointer = builder.gep(data, [index])
    return builder.bitcast(pointer, llvm.as_pointer()) if llvm else pointer


def _is_flat(array: Any) -> bool:
    return isinstance(array, types.Array) and array.ndim == 1 and array.layout == "C"


@instruction
def load(array: Any, index: Any) -> Any:
    if not _is_flat(array):
        return None
    vector = Vector(array.dtype)

    def emit(context: Any, builder: Any, values: Any, at: Any) -> Any:
        pointer = _pointer(context, builder, array, values, at, vector.llvm)
        return builder.load(pointer, align=array.dtype.bitwidth // 8)

    return vector, (array, types.intp), emit


def _mask(builder: Any, count: Any) -> Any:
    """True in the first `count` lanes."""
    length = builder.trunc(count, I32)
    one = builder.insert_element(ir.Constant(U32.llvm, ir.Undefined), length, ir.Constant(I32, 0))
    lengths = builder.shuffle_vector(one, one, constant(I32, [0] * LANES))
    return builder.icmp_unsigned("<", constant(I32, list(range(LANES))), lengths)


_MASK = ir.VectorType(ir.IntType(1), LANES)


@instruction
def load_first(array: Any, index: Any, count: Any) -> Any:
    if not _is_flat(array):
        return None
    vector = Vector(array.dtype)

    def emit(context: Any, builder: Any, values: Any, at: Any, length: Any) -> Any:
        pointer = _pointer(context, builder, array, values, at, vector.llvm)
        name = f"llvm.masked.load.v16{vector.llvm.element.intrinsic_name}.p0"
        kind = ir.FunctionType(vector.llvm, [pointer.type, I32, _MASK, vector.llvm])
        align, zeros = ir.Constant(I32, array.dtype.bitwidth // 8), ir.Constant(vector.llvm, None)
        return builder.call(declare(builder, name, kind), [pointer, align, _mask(builder, length), zeros])

    return vector, (array, types.intp, types.intp), emit


@instruction
def store_first(array: Any, index: Any, vector: Any, count: Any) -> Any:
    if not _is_flat(array) or not isinstance(vector, Vector) or array.dtype != vector.dtype:
        return None

    def emit(context: Any, builder: Any, values: Any, at: Any, lanes: Any, length: Any) -> Any:
        pointer = _pointer(context, builder, array, values, at, vector.llvm)
        name = f"llvm.masked.store.v16{vector.llvm.element.intrinsic_name}.p0"
        kind = ir.FunctionType(ir.VoidType(), [vector.llvm, pointer.type, I32, _MASK])
        align = ir.Constant(I32, array.dtype.bitwidth // 8)
        builder.call(declare(builder, name, kind), [lanes, pointer, align, _mask(builder, length)])
        return context.get_dummy_value()

    return types.none, (array, types.intp, vector, types.intp), emit


@instruction
def load_nibbles(array: Any, index: Any) -> Any:
    if not _is_flat(array) or array.dtype != types.uint8:
        return None

    def emit(context: Any, builder: Any, values: Any, at: Any) -> Any:
        eight = ir.VectorType(I8, 8)
        pairs = builder.load(_pointer(context, builder, array, values, at, eight), align=1)
        low = builder.and_(pairs, constant(I8, [15] * 8))
        high = builder.lshr(pairs, constant(I8, [4] * 8))
        order = [half * 8 + pair for pair in range(8) for half in range(2)]
        return builder.shuffle_vector(low, high, constant(I32, order))

    return U8, (array, types.intp), emit


def _store(array: Any, vector: Any, temporal: bool) -> Any:
    if not _is_flat(array) or not isinstance(vector, Vector) or array.dtype != vector.dtype:
        return None
    element_bytes = array.dtype.bitwidth // 8

    def emit(context: Any, builder: Any, values: Any, at: Any, lanes: Any) -> Any:
        pointer = _pointer(context, builder, array, values, at, vector.llvm)
        instruction = builder.store(lanes, pointer, align=element_bytes * (1 if temporal else LANES))
        if not temporal:
            instruction.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(I32, 1)]))
        return context.get_dummy_value()

    return types.none, (array, types.intp, vector), emit


@instruction
def store(array: Any, index: Any, vector: Any) -> Any:
    return _store(array, vector, temporal=True)


@instruction
def stream(array: Any, index: Any, vector: Any) -> Any:
    return _store(array, vector, temporal=False)


@instruction
def address(array: Any) -> Any:
    def emit(context: Any, builder: Any, values: Any) -> Any:
        return builder.ptrtoint(context.make_array(array)(context, builder, values).data, I64)

    return types.int64, (array,), emit


@instruction
def fetch_add(array: Any, index: Any, amount: Any) -> Any:
    if not _is_flat(array) or not isinstance(array.dtype, types.Integer):
        return None

    def emit(context: Any, builder: Any, values: Any, at: Any, addend: Any) -> Any:
        return builder.atomic_rmw("add", _pointer(context, builder, array, values, at), addend, "monotonic")

    return array.dtype, (array, types.intp, array.dtype), emit


@instruction
def fence() -> Any:
    def emit(context: Any, builder: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.none, (), emit


def declare(builder: Any, name: str, kind: Any) -> Any:
    return builder.module.globals.get(name) or ir.Function(builder.module, kind, name)


@instruction
def pin_to(cpu: Any) -> Any:
    def emit(context: Any, builder: Any, number: Any) -> Any:
        if sys.platform == "linux":
            mask_type = ir.VectorType(I64, 128)  # 8192 CPUs
            mask = builder.alloca(mask_type)
            builder.store(ir.Constant(mask_type, None), mask)
            word = builder.gep(builder.bitcast(mask, I64.as_pointer()), [builder.lshr(number, ir.Constant(I64, 6))])
            bit = builder.shl(ir.Constant(I64, 1), builder.and_(number, ir.Constant(I64, 63)))
            builder.store(bit, word)
            bytes_pointer = I8.as_pointer()
            kind = ir.FunctionType(I32, [I32, I64, bytes_pointer])
            here, size = ir.Constant(I32, 0), ir.Constant(I64, 1024)
            set_affinity = declare(builder, "sched_setaffinity", kind)
            builder.call(set_affinity, [here, size, builder.bitcast(mask, bytes_pointer)])
        return context.get_dummy_value()

    return types.none, (types.int64,), emit
