"""What the type hints of settings say: which settings a component has, and whether one is text or may be null."""

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal


def parts(hint: Any) -> list[Any]:
    """Return the members of a union, annotations removed; a hint of another kind alone."""
    origin = typing.get_origin(hint)
    if origin is Annotated:
        return parts(typing.get_args(hint)[0])
    if origin in (typing.Union, types.UnionType):
        return [part for member in typing.get_args(hint) for part in parts(member)]
    return [hint]


def components(hint: Any, value: Any = None) -> list[Any]:
    """Return the classes of settings that a hint allows; of those, the ones that `value` names if it has a `name`."""
    kinds = [part for part in parts(hint) if dataclasses.is_dataclass(part)]
    name = value.get("name") if isinstance(value, dict) else None
    return [kind for kind in kinds if name is None or getattr(kind, "name", name) == name]


def settings_of(hint: Any, value: Any) -> dict[str, Any]:
    """Return the hints of the settings below `value`, by name. A hint may be a mapping of names to hints itself."""
    if isinstance(hint, Mapping):
        return dict(hint)
    found: dict[str, Any] = {}
    for kind in components(hint, value):
        found = {**_hints(kind), **found}
    mappings = [part for part in parts(hint) if typing.get_origin(part) is dict]
    free = {key: typing.get_args(mappings[0])[1] for key in value} if mappings and isinstance(value, dict) else {}
    return {**free, **found}


def item_of(hint: Any) -> Any:
    """Return the hint of a list's items; Any where the hint is of no list."""
    lists = [part for part in parts(hint) if typing.get_origin(part) in (list, tuple)]
    return typing.get_args(lists[0])[0] if lists else Any


def is_text(hint: Any) -> bool:
    """Whether every scalar that a hint allows is text (or null)."""
    scalars = [part for part in parts(hint) if not _is_composite(part) and part is not type(None)]
    return bool(scalars) and all(map(_is_text, scalars))


def is_composite(hint: Any) -> bool:
    """Whether a hint allows a mapping or a list."""
    return any(map(_is_composite, parts(hint)))


def gives_default(hint: Any, value: Any, name: str) -> bool:
    """Whether null for the setting `name` stands for its default: it has one, and null is none of its values."""
    for kind in components(hint, value):
        field = getattr(kind, "__dataclass_fields__", {}).get(name)
        if field is not None:
            return type(None) not in parts(_hints(kind)[name]) and _has_default(field)
    return False


def _has_default(field: Any) -> bool:
    missing = dataclasses.MISSING
    default = field.default
    # pydantic leaves its own FieldInfo as the default, required or not.
    if hasattr(default, "is_required"):
        return not default.is_required()
    return default is not missing or field.default_factory is not missing


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _is_composite(part: Any) -> bool:
    return dataclasses.is_dataclass(part) or typing.get_origin(part) in (dict, list, tuple)


def _is_text(part: Any) -> bool:
    if typing.get_origin(part) is Literal:
        return all(isinstance(choice, str) for choice in typing.get_args(part))
    return isinstance(part, type) and issubclass(part, str | Path)
