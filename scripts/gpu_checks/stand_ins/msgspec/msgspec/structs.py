"""Records: dataclasses that are made by inheritance, with a tag where several kinds share a file."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from dataclasses import field as dataclass_field
from inspect import get_annotations
from typing import Any, dataclass_transform

__all__ = ["Struct", "asdict", "field", "replace"]


def field(**options: Any) -> Any:
    """A default that is made for each struct anew: ``default_factory``."""
    return dataclass_field(**options)


@dataclass_transform(field_specifiers=(field,))
class Struct:
    """A dataclass. `tag` stands in `tag_field`, which a base class may name for all of its kinds."""

    __struct_tag__: tuple[str, str] | None = None
    __struct_tag_field__ = "type"
    __struct_options__: frozenset[str] = frozenset()

    def __init_subclass__(
        cls,
        frozen: bool = False,
        kw_only: bool = False,
        tag: str | None = None,
        tag_field: str | None = None,
        **options: bool,
    ) -> None:
        super().__init_subclass__()
        cls.__struct_tag_field__ = tag_field or cls.__struct_tag_field__
        if tag is not None or tag_field is not None:
            cls.__struct_tag__ = (cls.__struct_tag_field__, tag or cls.__name__)
        cls.__struct_options__ |= {name for name, wanted in options.items() if wanted}
        for name in get_annotations(cls):
            default = cls.__dict__.get(name)
            if isinstance(default, (dict, list, set)):  # one for all would be shared; msgspec takes only empty ones
                setattr(cls, name, dataclass_field(default_factory=type(default)))
        dataclass(frozen=frozen, kw_only=kw_only)(cls)


def asdict(struct: Any) -> dict[str, Any]:
    """Its fields, those of structs within as they are."""
    return {each.name: getattr(struct, each.name) for each in fields(struct)}
