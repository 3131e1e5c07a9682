"""As much of msgspec as roofprobe's records ask for, for a machine that lacks it and can't install it.

Structs are dataclasses, JSON goes through the standard library, and types are checked as strictly as msgspec does. It
is found only where scripts/validate_gpu puts its folder on the path: where msgspec is missing.
"""

from . import json, structs
from .conversion import Meta, convert, to_builtins
from .errors import DecodeError, MsgspecError, ValidationError
from .structs import Struct, field

__all__ = [
    "DecodeError",
    "Meta",
    "MsgspecError",
    "Struct",
    "ValidationError",
    "convert",
    "field",
    "json",
    "structs",
    "to_builtins",
]
