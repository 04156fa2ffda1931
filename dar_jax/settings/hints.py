"""The type hints of settings: which settings a component has, and whether one is text or may be null.

A hint is a type, or a mapping of the names of settings to their hints.
"""

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal


def members(hint: Any) -> list[Any]:
    """Return the members of a union without annotations; for any other hint, the hint alone."""
    origin = typing.get_origin(hint)
    if origin is Annotated:
        return members(typing.get_args(hint)[0])
    if origin in (typing.Union, types.UnionType):
        return [part for member in typing.get_args(hint) for part in members(member)]
    return [hint]


def components(hint: Any, value: Any = None) -> list[Any]:
    """Return the settings classes that a hint allows; if `value` has a `name`, only those of that name."""
    kinds = [part for part in members(hint) if dataclasses.is_dataclass(part)]
    name = value.get("name") if isinstance(value, dict) else None
    return [kind for kind in kinds if name is None or getattr(kind, "name", name) == name]


def field_hints(hint: Any, value: Any = None) -> dict[str, Any]:
    """Return the hints of the settings in `value`, by name."""
    if isinstance(hint, Mapping):
        return dict(hint)
    found: dict[str, Any] = {}
    for kind in components(hint, value):
        found = {**hints_of(kind), **found}
    mappings = [part for part in members(hint) if typing.get_origin(part) is dict]
    free = {key: typing.get_args(mappings[0])[1] for key in value} if mappings and isinstance(value, dict) else {}
    return {**free, **found}


def item_hint(hint: Any) -> Any:
    """Return the hint of a list's items; Any if the hint allows no list."""
    lists = [part for part in members(hint) if typing.get_origin(part) in (list, tuple)]
    return typing.get_args(lists[0])[0] if lists else Any


def hint_at(path: tuple[str, ...], hint: Any, settings: Any) -> tuple[Any, Any]:
    """Return the hint and the value at a path below `hint`, following the components chosen in `settings`."""
    for key in path:
        if isinstance(settings, list) and key.isdecimal():
            hint, settings = item_hint(hint), settings[int(key)]
            continue
        hint = field_hints(hint, settings).get(key, Any)
        settings = settings.get(key) if isinstance(settings, dict) else None
    return hint, settings


def field_names(path: tuple[str, ...], hint: Any, settings: Any) -> list[str]:
    """Return the names of the settings at a path, sorted."""
    return sorted(field_hints(*hint_at(path, hint, settings)))


def is_text(hint: Any) -> bool:
    """Return whether every scalar that a hint allows is text or null."""
    scalars = [part for part in members(hint) if not _is_composite(part) and part is not type(None)]
    return bool(scalars) and all(map(_is_text, scalars))


def is_composite(hint: Any) -> bool:
    """Return whether a hint allows a mapping or a list."""
    return any(map(_is_composite, members(hint)))


def null_is_default(hint: Any, value: Any, name: str) -> bool:
    """Return whether null means the default of the setting `name`: it has a default, and its type excludes null."""
    for kind in components(hint, value):
        field = getattr(kind, "__dataclass_fields__", {}).get(name)
        if field is not None:
            return type(None) not in members(hints_of(kind)[name]) and _has_default(field)
    return False


@functools.cache
def hints_of(kind: Any) -> dict[str, Any]:
    """Return the hints of a settings class by field, annotations included."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _has_default(field: Any) -> bool:
    missing = dataclasses.MISSING
    default = field.default
    # pydantic stores its FieldInfo as the default, also of a required field.
    if hasattr(default, "is_required"):
        return not default.is_required()
    return default is not missing or field.default_factory is not missing


def _is_composite(part: Any) -> bool:
    return dataclasses.is_dataclass(part) or typing.get_origin(part) in (dict, list, tuple)


def _is_text(part: Any) -> bool:
    if typing.get_origin(part) is Literal:
        return all(isinstance(choice, str) for choice in typing.get_args(part))
    return isinstance(part, type) and issubclass(part, str | Path)
