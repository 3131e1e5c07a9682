"""JSON with msgspec's names, over the standard library's."""

from __future__ import annotations

import json
from math import isfinite
from typing import Any, Generic, NoReturn, TypeVar

from .conversion import convert, to_builtins
from .errors import DecodeError

T = TypeVar("T")


class Decoder(Generic[T]):
    """`decode` for one type."""

    def __init__(self, type: Any = Any) -> None:  # noqa: A002 - msgspec's
        self._type = type

    def decode(self, data: bytes | str) -> T:
        found: T = decode(data, type=self._type)
        return found


def decode(data: bytes | bytearray | memoryview | str, *, type: Any = Any) -> Any:  # noqa: A002 - msgspec's
    """Raises DecodeError for what is no JSON, and ValidationError for what is not of that type."""
    try:
        text = data if isinstance(data, str) else bytes(data).decode()
        found = json.loads(text, parse_constant=_no_number)
    except ValueError as error:
        raise DecodeError(f"JSON is malformed: {error}") from None
    return convert(found, type, str_keys=True)


def encode(value: Any, *, order: str | None = None) -> bytes:
    """One line; numbers that JSON has not got are null. `order` "sorted": the keys."""
    plain = _finite(to_builtins(value))
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":"), sort_keys=order == "sorted").encode()


def format(data: Any, *, indent: int = 2) -> Any:  # noqa: A001 - msgspec's
    """The same document over several lines, as bytes where it was bytes."""
    text = json.dumps(json.loads(data), ensure_ascii=False, indent=indent)
    return text if isinstance(data, str) else text.encode()


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not isfinite(value) else value
