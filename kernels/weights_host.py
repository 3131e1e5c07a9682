"""Weights as the host kernels see them: where a row's scales lie, and sixteen weights of a row at a time.

Each format is a named tuple of flat arrays, whose type picks the code at compile time. Inside a kernel:

    scale_row(weight, row, k)                      where the scales of that row begin
    products(weight, first, scales, j)             weights j to j + 15 of the row whose first weight is number `first`
                                                   and whose scales begin at `scales`: float32, the value or q * s;
                                                   exact
    first_products(weight, first, scales, j, n)    the first n of them, then zeros, reading no further
    fp4_results(weight, first, scales, j, out)     the planes' results for the same weights, as many bits each as an
                                                   element of `out` has

Scale column c = j // block of row r lies at r * K / block + c in the linear layout. In the 128x4 ("swizzled") one,
tiles of 128 rows and 4 columns, it is byte (r % 32) * 16 + (r % 128 // 32) * 4 + c % 4 of tile r // 128, c // 4. A
stack of swizzled matrices pads each to whole tiles; padding is never read.
"""

# ruff: noqa: ARG001, ARG005 (the functions behind an overload share one list of parameters)

from collections.abc import Callable
from typing import Any, NamedTuple

from numba.extending import overload
import numpy as np

from roofprobe.kernels.vector_ir import load, load_first, load_nibbles
from roofprobe.kernels.vector_math import from_bf16, from_e4m3, interleave, look_up


class BF16(NamedTuple):
    """values uint16 [rows * K]."""

    values: Any


class FP8(NamedTuple):
    """values uint8 [rows * K], scales float32 [rows] or [1]."""

    values: Any
    scales: Any


class NVFP4(NamedTuple):
    """codes uint8 [rows * K / 2]; scales uint8; planes: tables_host.py; n: rows of one matrix of the stack."""

    codes: Any
    scales: Any
    planes: Any
    n: int


class SwizzledNVFP4(NamedTuple):
    """As NVFP4, with scales in the 128x4 layout."""

    codes: Any
    scales: Any
    planes: Any
    n: int


class MXFP4(NamedTuple):
    """As NVFP4, with blocks of 32."""

    codes: Any
    scales: Any
    planes: Any
    n: int


class SwizzledMXFP4(NamedTuple):
    """As MXFP4, with scales in the 128x4 layout."""

    codes: Any
    scales: Any
    planes: Any
    n: int


_SHIFT = {NVFP4: 4, SwizzledNVFP4: 4, MXFP4: 5, SwizzledMXFP4: 5}  # log2 of the block
_SWIZZLED = (SwizzledNVFP4, SwizzledMXFP4)


def fp4(block: int, swizzled: bool) -> Callable[..., Any]:
    """The tuple for FP4 codes with one scale for `block` weights."""
    linear, tiled = {16: (NVFP4, SwizzledNVFP4), 32: (MXFP4, SwizzledMXFP4)}[block]
    return tiled if swizzled else linear


def scale_row(weight: Any, row: Any, k: Any) -> Any:
    """Inside a kernel: where the scales of that row begin."""


@overload(scale_row, strict=False)
def _choose_scale_row(weight: Any, row: Any, k: Any) -> Any:
    kind = weight.instance_class
    if kind not in _SHIFT:
        return lambda weight, row, k: row
    shift = _SHIFT[kind]

    def linear(weight: Any, row: Any, k: Any) -> Any:
        return row * (k >> shift)

    def tiled(weight: Any, row: Any, k: Any) -> Any:
        matrix, tiles = row // weight.n, ((k >> shift) + 3) >> 2
        row += matrix * (-weight.n & 127)
        return ((row >> 7) * tiles << 9) + ((row & 31) << 4) + ((row >> 5 & 3) << 2)

    return tiled if kind in _SWIZZLED else linear


def _scale_byte(weight: Any, scales: Any, j: Any) -> Any:
    """Inside a kernel: the scale byte of weight j of the row."""


@overload(_scale_byte, strict=False)
def _choose_scale_byte(weight: Any, scales: Any, j: Any) -> Any:
    shift = _SHIFT[weight.instance_class]

    def linear(weight: Any, scales: Any, j: Any) -> Any:
        return np.int64(weight.scales[np.uint64(scales + (j >> shift))])

    def tiled(weight: Any, scales: Any, j: Any) -> Any:
        return np.int64(weight.scales[np.uint64(scales + (j >> shift + 2 << 9) + (j >> shift & 3))])

    return tiled if weight.instance_class in _SWIZZLED else linear


def fp4_results(weight: Any, first: Any, scales: Any, j: Any, out: Any) -> Any:
    """Inside a kernel: the planes' results for weights j to j + 15, as wide as out's elements."""


def _two_bytes(weight: Any, first: Any, scales: Any, j: Any, out: Any) -> Any:
    nibbles = load_nibbles(weight.codes, (first + j) >> 1)
    row = _scale_byte(weight, scales, j) * 32
    return interleave(look_up(load(weight.planes, row), nibbles), look_up(load(weight.planes, row + 16), nibbles))


def _four_bytes(weight: Any, first: Any, scales: Any, j: Any, out: Any) -> Any:
    nibbles = load_nibbles(weight.codes, (first + j) >> 1)
    planes, row = weight.planes, _scale_byte(weight, scales, j) * 64
    low = interleave(look_up(load(planes, row), nibbles), look_up(load(planes, row + 16), nibbles))
    high = interleave(look_up(load(planes, row + 32), nibbles), look_up(load(planes, row + 48), nibbles))
    return interleave(low, high)


@overload(fp4_results, strict=False)
def _choose_results(weight: Any, first: Any, scales: Any, j: Any, out: Any) -> Any:
    return _two_bytes if out.dtype.bitwidth == 16 else _four_bytes


_TWO_BYTES = np.empty(0, dtype=np.uint16)


def products(weight: Any, first: Any, scales: Any, j: Any) -> Any:
    """Inside a kernel: weights j to j + 15 of the row as float32, without the last scale."""


@overload(products, strict=False)
def _choose_products(weight: Any, first: Any, scales: Any, j: Any) -> Any:
    if weight.instance_class is BF16:
        return lambda weight, first, scales, j: from_bf16(load(weight.values, first + j))
    if weight.instance_class is FP8:
        return lambda weight, first, scales, j: from_e4m3(load(weight.values, first + j))
    return lambda weight, first, scales, j: from_bf16(fp4_results(weight, first, scales, j, _TWO_BYTES))


def first_products(weight: Any, first: Any, scales: Any, j: Any, count: Any) -> Any:
    """Inside a kernel: the first `count` of products(...), then zeros."""


@overload(first_products, strict=False)
def _choose_first_products(weight: Any, first: Any, scales: Any, j: Any, count: Any) -> Any:
    if weight.instance_class is BF16:
        return lambda weight, first, scales, j, count: from_bf16(load_first(weight.values, first + j, count))
    if weight.instance_class is FP8:
        return lambda weight, first, scales, j, count: from_e4m3(load_first(weight.values, first + j, count))
    return lambda weight, first, scales, j, count: products(weight, first, scales, j)  # whole blocks
