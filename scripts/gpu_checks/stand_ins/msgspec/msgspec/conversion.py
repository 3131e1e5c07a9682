"""From plain data to typed and back; both ways as strict as msgspec, whose words the complaints have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
import re
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

from .errors import ValidationError

NAMES = {NoneType: "null", list: "array", tuple: "array", dict: "object", Mapping: "object"}
"""What JSON calls a type; the others have Python's name."""


@dataclass(frozen=True)
class Meta:
    """What a value has to keep to beside its type."""

    gt: float | None = None
    ge: float | None = None
    lt: float | None = None
    le: float | None = None
    pattern: str | None = None
    min_length: int | None = None
    max_length: int | None = None

    def problem(self, value: Any) -> str | None:
        """What was expected of `value` and is not so."""
        if self.gt is not None and not value > self.gt:
            return f"> {self.gt}"
        if self.ge is not None and not value >= self.ge:
            return f">= {self.ge}"
        if self.lt is not None and not value < self.lt:
            return f"< {self.lt}"
        if self.le is not None and not value <= self.le:
            return f"<= {self.le}"
        if self.pattern is not None and not re.search(self.pattern, value):
            return f"matching regex '{self.pattern}'"
        if self.min_length is not None and len(value) < self.min_length:
            return f"of length >= {self.min_length}"
        if self.max_length is not None and len(value) > self.max_length:
            return f"of length <= {self.max_length}"
        return None


def convert(value: Any, type: Any, *, strict: bool = True, str_keys: bool = False) -> Any:  # noqa: A002 - msgspec's
    """`value` as `type`. Raises ValidationError.

    Unless `strict`, text may stand for a number; with `str_keys`, as in JSON, for a mapping's keys.
    """
    return _Conversion(strict, str_keys).read(value, type, "$")


def to_builtins(value: Any) -> Any:
    """Structs and dataclasses as dicts, tuples as lists."""
    if is_dataclass(value) and not isinstance(value, type):
        return _plain_fields(value)
    if isinstance(value, Mapping):
        return {key: to_builtins(each) for key, each in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [to_builtins(each) for each in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"Encoding objects of type {type(value).__name__} is unsupported")


def _plain_fields(value: Any) -> dict[str, Any]:
    tag = getattr(value, "__struct_tag__", None)
    told = {each.name: getattr(value, each.name) for each in fields(value)}
    if "omit_defaults" in getattr(value, "__struct_options__", ()):
        told = {each.name: told[each.name] for each in fields(value) if told[each.name] != _default(each)}
    return {**(dict([tag]) if tag else {}), **{name: to_builtins(each) for name, each in told.items()}}


def _default(field: Any) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


@cache
def _types(kind: type) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


@dataclass(frozen=True)
class _Conversion:
    strict: bool
    str_keys: bool

    def read(self, value: Any, kind: Any, at: str) -> Any:
        origin, of = get_origin(kind), get_args(kind)
        if kind is Any or kind is object:
            return value
        if origin is Annotated:
            found = self.read(value, of[0], at)
            for expected in of[1:]:
                if found is not None and isinstance(expected, Meta) and (problem := expected.problem(found)):
                    raise ValidationError(f"Expected `{_name(of[0])}` {problem}{_place(at)}")
            return found
        if origin is Literal:
            if not any(value == each and type(value) is type(each) for each in of):
                raise ValidationError(f"Invalid enum value {value!r}{_place(at)}")
            return value
        if origin in (Union, UnionType):
            return self._read_union(value, of, at)
        if origin is tuple and of[-1] is not Ellipsis:
            items = self._items(value, kind, at)
            if len(items) != len(of):
                raise ValidationError(f"Expected `array` of length {len(of)}, got {len(items)}{_place(at)}")
            return tuple(self.read(each, of[i], f"{at}[{i}]") for i, each in enumerate(items))
        if (origin or kind) in (tuple, list, frozenset, set):
            items = self._items(value, kind, at)
            return (origin or kind)(self.read(each, of[0] if of else Any, f"{at}[{i}]") for i, each in enumerate(items))
        if (origin or kind) in (dict, Mapping):
            if not isinstance(value, Mapping):
                _refuse(value, kind, at)
            key_kind, value_kind = of or (Any, Any)
            return {self._key(k, key_kind, at): self.read(v, value_kind, f"{at}[...]") for k, v in value.items()}
        if is_dataclass(kind):
            return value if isinstance(value, kind) else self._struct(value, kind, at)
        return self._plain(value, kind, at)

    def _plain(self, value: Any, kind: Any, at: str) -> Any:
        if kind is float and type(value) is int:
            return float(value)
        if kind is int and type(value) is float and value.is_integer():
            return int(value)
        if kind in (None, NoneType):
            return None if value is None else _refuse(value, kind, at)
        if kind in (int, float) and isinstance(value, str) and not self.strict:
            try:
                return kind(value)
            except ValueError:
                _refuse(value, kind, at)
        return value if type(value) is kind else _refuse(value, kind, at)

    def _items(self, value: Any, kind: Any, at: str) -> Any:
        return value if isinstance(value, (list, tuple)) else _refuse(value, kind, at)

    def _key(self, key: Any, kind: Any, at: str) -> Any:
        is_number = self.str_keys and kind in (int, float) and isinstance(key, str)
        try:
            return kind(key) if is_number else self.read(key, kind, f"key in {at}")
        except ValueError:
            return _refuse(key, kind, f"key in {at}")

    def _read_union(self, value: Any, kinds: tuple[Any, ...], at: str) -> Any:
        structs = [kind for kind in kinds if is_dataclass(kind)]
        if len(structs) > 1 and isinstance(value, Mapping):
            return self._struct(value, self._tagged(value, structs, at), at)
        nearest = None
        for kind in kinds:
            try:
                return self.read(value, kind, at)
            except ValidationError as error:
                if _is_like(value, kind):  # the right type of JSON, but for something within: this says most
                    nearest = error
        if nearest is not None:
            raise nearest
        names = " | ".join(_name(kind) for kind in kinds)
        raise ValidationError(f"Expected `{names}`, got `{_name(type(value))}`{_place(at)}")

    def _tagged(self, value: Mapping[str, Any], kinds: list[Any], at: str) -> Any:
        name = kinds[0].__struct_tag__[0]
        if name not in value:
            raise ValidationError(f"Object missing required field `{name}`{_place(at)}")
        found = next((kind for kind in kinds if kind.__struct_tag__[1] == value[name]), None)
        if found is None:
            raise ValidationError(f"Invalid value {value[name]!r}{_place(f'{at}.{name}')}")
        return found

    def _struct(self, value: Any, kind: Any, at: str) -> Any:
        if not isinstance(value, Mapping):
            _refuse(value, kind, at)
        types, tag = _types(kind), getattr(kind, "__struct_tag__", None)
        tag_name, tag_value = tag or (None, None)
        if tag_name in value and value[tag_name] != tag_value:
            raise ValidationError(f"Invalid value {value[tag_name]!r}{_place(f'{at}.{tag_name}')}")
        if "forbid_unknown_fields" in getattr(kind, "__struct_options__", ()):
            for name in value:
                if name not in types and name != tag_name:
                    raise ValidationError(f"Object contains unknown field `{name}`{_place(at)}")
        found = {}
        for each in fields(kind):
            if each.name in value:
                found[each.name] = self.read(value[each.name], types[each.name], f"{at}.{each.name}")
            elif each.default is MISSING and each.default_factory is MISSING:
                raise ValidationError(f"Object missing required field `{each.name}`{_place(at)}")
        try:
            return kind(**found)
        except (ValueError, TypeError) as error:  # of its __post_init__
            raise ValidationError(f"{error}{_place(at)}") from error


def _refuse(value: Any, kind: Any, at: str) -> NoReturn:
    raise ValidationError(f"Expected `{_name(kind)}`, got `{_name(type(value))}`{_place(at)}")


def _place(at: str) -> str:
    return "" if at == "$" else f" - at `{at}`"


def _name(kind: Any) -> str:
    base = _base(kind)
    return NAMES.get(base) or ("object" if is_dataclass(base) else getattr(base, "__name__", str(base)))


def _base(kind: Any) -> Any:
    """The class that a value of this type has."""
    if get_origin(kind) is Literal:
        return type(get_args(kind)[0])
    return _base(get_args(kind)[0]) if get_origin(kind) is Annotated else get_origin(kind) or kind


def _is_like(value: Any, kind: Any) -> bool:
    return _name(kind) == _name(type(value)) or (_base(kind) is float and type(value) is int)
