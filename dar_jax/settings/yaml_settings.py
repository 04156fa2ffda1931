"""Settings files and `key.sub=value` overrides as plain values, not yet validated.

The type of a setting decides how its value is read: as written for text, as YAML for everything else.
"""

from collections.abc import Sequence
from typing import Any

from dar_jax.errors import SettingError
from dar_jax.settings.hints import components, field_hints, is_composite, is_text, item_hint, null_is_default
from dar_jax.settings.interpolation import literal, resolved
from dar_jax.settings.refusals import shown
from dar_jax.settings.yaml_text import Unquoted, dump, load, load_whole


def merged(text: str, overrides: Sequence[str] = (), *, where: str, of: Any = Any) -> dict[str, Any]:
    """Return the settings in YAML text, with overrides applied.

    `of` is the type of the settings, or a mapping of their names to types. A null setting whose type excludes null is
    left out, so that it gets its default. Raises SettingError, which names the file `where`.
    """
    try:
        settings = load(text)
    except ValueError as fault:
        raise SettingError(f"{where}: not readable as YAML: {fault}") from None
    if not isinstance(settings, dict | None):
        came = "a list" if isinstance(settings, list) else "text"
        raise SettingError(f"{where}: got {came}, expected `key: value` lines")
    changes = [_change(override, where) for override in overrides]
    settings = settings or {}
    for keys, change in changes:
        settings = _without_replaced(settings, keys, change, of)
    for keys, change in changes:
        settings = _with_value(settings, keys, change)
    return resolved(_typed(settings, of), where)


def plain(text: str, of: Any) -> Any:
    """Return YAML text as plain values of the type `of`; references are not resolved. Raises ValueError."""
    return _typed(load(text), of)


def written(settings: dict[str, Any]) -> str:
    """Return plain values as YAML text that `merged` reads back."""
    return dump(literal(settings))


class _Override:
    """The value of one override: text until the type of its setting is known."""

    def __init__(self, key: str, text: str, where: str) -> None:
        self.key, self.text, self.where = key, text, where

    def value(self, hint: Any) -> Any:
        """Return the value: as written if the setting is text, else read as YAML."""
        as_yaml = is_composite(hint) and self.text.lstrip().startswith(("{", "["))
        return self._as_text() if is_text(hint) and not as_yaml else self.as_yaml()

    def _as_text(self) -> str | None:
        if self.text == "null":
            return None
        if len(self.text) > 1 and self.text[0] == self.text[-1] and self.text[0] in "'\"":
            try:
                quoted = load_whole(self.text)
            except ValueError:
                return self.text
            return self.text if isinstance(quoted, Unquoted) or not isinstance(quoted, str) else quoted
        return self.text

    def as_yaml(self) -> Any:
        """Return the value read as YAML. Raises SettingError unless YAML reads the whole text."""
        try:
            return load_whole(self.text) if self.text else ""
        except ValueError as fault:
            raise SettingError(
                f"{self.where}: {self.key}: got {shown(self.text)}, expected a value in YAML ({str(fault)[:200]}); put"
                f" quotes around text, such as '{self.key}=\"...\"'"
            ) from None


def _change(override: str, where: str) -> tuple[list[str], _Override]:
    key, equals, value = override.partition("=")
    keys = key.split(".")
    if not equals or not all(keys):
        raise SettingError(f"{override[:100]!r}: not an override; write key.sub=value, such as steps=10")
    return keys, _Override(key, value, where)


def _with_value(node: Any, keys: Sequence[str], value: Any) -> Any:
    """Return `node` with the value at `keys`; an existing value is replaced, not merged."""
    if not keys:
        return value
    key, rest = keys[0], keys[1:]
    if isinstance(node, _Override):
        node = node.as_yaml()
    if isinstance(node, list) and key.isdecimal():
        if int(key) >= len(node):
            raise SettingError(f"{value.where}: {value.key}: there are {len(node)} items, counted from 0")
        return [_with_value(item, rest, value) if index == int(key) else item for index, item in enumerate(node)]
    known = node if isinstance(node, dict) else {}
    return {**known, key: _with_value(known.get(key), rest, value)}


def _without_replaced(node: Any, keys: Sequence[str], change: _Override, hint: Any) -> Any:
    """Drop the settings of a component if an override selects another kind, which they would not fit."""
    if not isinstance(node, dict):
        return node
    key, rest = keys[0], keys[1:]
    if not rest:
        another = key == "name" and len(components(hint)) > 1 and node.get(key, change.text) != change.text
        return {} if another else node
    if key not in node:
        return node
    inner = field_hints(hint, node).get(key, Any)
    return {**node, key: _without_replaced(node[key], rest, change, inner)}


def _typed(value: Any, hint: Any) -> Any:
    if isinstance(value, _Override):
        value = value.value(hint)
    if isinstance(value, Unquoted):
        return str(value) if is_text(hint) and not value.is_null else value.value()
    if isinstance(value, list):
        return [_typed(item, item_hint(hint)) for item in value]
    if not isinstance(value, dict):
        return value
    kind = {"name": _typed(value["name"], str)} if "name" in value else {}
    hints = field_hints(hint, {**value, **kind})
    found = {str(key): _typed(item, hints.get(key, Any)) for key, item in value.items()}
    return {key: item for key, item in found.items() if item is not None or not null_is_default(hint, found, key)}
