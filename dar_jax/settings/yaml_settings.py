"""Files of settings and the `key.sub=value` overrides of a command line, as plain values; nothing is validated.

The types of the settings decide what is text: there a value is taken as written, and YAML's elsewhere.
"""

from collections.abc import Sequence
from typing import Any

from dar_jax.errors import SettingError
from dar_jax.settings.hints import components, gives_default, is_composite, is_text, item_of, settings_of
from dar_jax.settings.interpolation import literal, resolved
from dar_jax.settings.yaml_text import Unquoted, dump, load, load_whole


def merged(text: str, overrides: Sequence[str] = (), *, where: str, of: Any = Any) -> dict[str, Any]:
    """Return YAML text with overrides on top; `where` names it in a SettingError.

    `of` is the type of the settings, or a mapping of their names to types. Null for a setting that cannot be null
    leaves it out, so that it gets its default.
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
        settings = _put(settings, keys, change)
    return resolved(_typed(settings, of), where)


def plain(text: str, of: Any) -> Any:
    """Return YAML text as plain values of the type `of`, without overrides and references. Raises ValueError."""
    return _typed(load(text), of)


def written(settings: dict[str, Any]) -> str:
    """Write plain values as YAML text that `merged` reads back."""
    return dump(literal(settings))


class _Override:
    """The value of one override: text until the type of its setting is known."""

    def __init__(self, key: str, text: str, where: str) -> None:
        self.key, self.text, self.where = key, text, where

    def value(self, hint: Any) -> Any:
        """Return the value as text where the setting is text, else as YAML."""
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
        """Return the value as YAML. Raises SettingError where that is not the whole text."""
        try:
            return load_whole(self.text) if self.text else ""
        except ValueError as fault:
            shown = self.text if len(self.text) <= 100 else f"{self.text[:97]}..."
            raise SettingError(
                f"{self.where}: {self.key}: got {shown!r}, expected a value in YAML ({str(fault)[:200]}); put quotes"
                f" around text, such as '{self.key}=\"...\"'"
            ) from None


def _change(override: str, where: str) -> tuple[list[str], _Override]:
    key, equals, value = override.partition("=")
    keys = key.split(".")
    if not equals or not all(keys):
        raise SettingError(f"{override[:100]!r}: not an override; write key.sub=value, such as steps=10")
    return keys, _Override(key, value, where)


def _put(node: Any, keys: Sequence[str], value: Any) -> Any:
    """Return `node` with the value at `keys`; a value that is there is replaced, mappings too."""
    if not keys:
        return value
    key, rest = keys[0], keys[1:]
    if isinstance(node, _Override):
        node = node.as_yaml()
    if isinstance(node, list) and key.isdecimal():
        if int(key) >= len(node):
            raise SettingError(f"{value.where}: {value.key}: there are {len(node)} items, counted from 0")
        return [_put(item, rest, value) if index == int(key) else item for index, item in enumerate(node)]
    known = node if isinstance(node, dict) else {}
    return {**known, key: _put(known.get(key), rest, value)}


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
    inner = settings_of(hint, node).get(key, Any)
    return {**node, key: _without_replaced(node[key], rest, change, inner)}


def _typed(value: Any, hint: Any) -> Any:
    if isinstance(value, _Override):
        value = value.value(hint)
    if isinstance(value, Unquoted):
        return str(value) if is_text(hint) and not value.is_null else value.value()
    if isinstance(value, list):
        return [_typed(item, item_of(hint)) for item in value]
    if not isinstance(value, dict):
        return value
    kind = {"name": _typed(value["name"], str)} if "name" in value else {}
    hints = settings_of(hint, {**value, **kind})
    found = {str(key): _typed(item, hints.get(key, Any)) for key, item in value.items()}
    return {key: item for key, item in found.items() if item is not None or not gives_default(hint, found, key)}
