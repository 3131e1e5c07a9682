"""Element types of the collective probes, under nccl-tests' names, with what each can hold exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from roofprobe.errors import BadInput

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Dtype:
    """One element type.

    `exact_integer` is the largest N such that every integer of magnitude up to N is exact: 2^(mantissa bits + 1) for
    a float. For an integer type it is a little less than half the maximum, so that a sum never reaches the poison.
    `exact_power` is the largest p for which 2^p is exact and below the type's maximum.
    """

    name: str
    torch_name: str
    bytes: int
    exact_integer: int
    exact_power: int
    is_float: bool = True
    is_signed: bool = True

    @property
    def is_float8(self) -> bool:
        return self.is_float and self.bytes == 1

    @property
    def bits(self) -> torch.dtype:
        """The integer type of the same width, for comparing bit by bit."""
        import torch

        return {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[self.bytes]

    @property
    def torch(self) -> torch.dtype:
        import torch

        found: torch.dtype = getattr(torch, self.torch_name)
        return found


DTYPES = (
    Dtype("int8", "int8", 1, 63, 6, is_float=False),
    Dtype("uint8", "uint8", 1, 127, 7, is_float=False, is_signed=False),
    Dtype("int32", "int32", 4, 1 << 29, 30, is_float=False),
    Dtype("int64", "int64", 8, 1 << 31, 62, is_float=False),
    Dtype("half", "float16", 2, 1 << 11, 15),
    Dtype("float", "float32", 4, 1 << 24, 127),
    Dtype("double", "float64", 8, 1 << 31, 1023),
    Dtype("bfloat16", "bfloat16", 2, 1 << 8, 127),
    Dtype("f8e4m3", "float8_e4m3fn", 1, 1 << 4, 8),
    Dtype("f8e5m2", "float8_e5m2", 1, 1 << 3, 15),
)
"""double and int64 hold more, but the hash that values come from has 32 bits."""

_OTHER_NAMES = {"fp8_e4m3": "f8e4m3", "fp8_e5m2": "f8e5m2"}


def find_dtype(name: str) -> Dtype:
    """The type called `name` by nccl-tests (``half``) or by torch (``float16``). Raises BadInput for another."""
    for dtype in DTYPES:
        if _OTHER_NAMES.get(name, name) in (dtype.name, dtype.torch_name):
            return dtype
    known = ", ".join(d.name for d in DTYPES)
    if name == "all":
        raise BadInput(f"-d all: one datatype at a time; expected one of {known}")
    raise BadInput(f"no such datatype: '{name}'; expected one of {known}, or torch's name for it")
