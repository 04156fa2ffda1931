"""References to other settings, `${key.sub}`. There are no resolvers, so the environment is never read."""

import re
from collections.abc import Mapping
from typing import Any

from dar_jax.errors import SettingError

_REFERENCE = re.compile(r"(\\*)\$\{(?:\s*([\w-]+(?:\.[\w-]+)*)\s*\})?")
_LONGEST, _MOST_VALUES = 1_000_000, 20_000


def resolved(settings: dict[str, Any], where: str) -> dict[str, Any]:
    """Return plain values with their references replaced; `\\${` is a literal `${`.

    Raises SettingError, which names the file `where`.
    """
    found: dict[str, Any] = _References(settings, where).within(settings, "")
    _check_size(found, where)
    return found


def literal(value: Any) -> Any:
    """Return plain values with every `${` escaped; `resolved` inverts it."""
    if isinstance(value, dict):
        return {key: literal(item) for key, item in value.items()}
    if isinstance(value, list):
        return [literal(item) for item in value]
    return re.sub(r"(\\*)\$\{", lambda found: f"{found[1] * 2}\\${{", value) if isinstance(value, str) else value


class _References:
    """The references of one file; each setting is resolved once, and a cycle is an error."""

    def __init__(self, settings: dict[str, Any], where: str) -> None:
        self._settings, self._where = settings, where
        self._known: dict[str, Any] = {}
        self._open: list[str] = []

    def within(self, value: Any, key: str) -> Any:
        """Return the value at `key`, resolved."""
        if isinstance(value, dict):
            return {name: self.within(item, f"{key}.{name}" if key else name) for name, item in value.items()}
        if isinstance(value, list):
            return [self.within(item, f"{key}.{index}") for index, item in enumerate(value)]
        return self._text(value, key) if isinstance(value, str) and "${" in value else value

    def _text(self, text: str, key: str) -> Any:
        whole = _REFERENCE.fullmatch(text)
        if whole and whole[2] and not whole[1]:
            return self._target(whole[2], key)
        replaced = _REFERENCE.sub(lambda found: self._one(found, text, key), text)
        if len(replaced) > _LONGEST:
            raise SettingError(f"{self._where}: {key}: its references expand to more than {_LONGEST:,} characters")
        return replaced

    def _one(self, found: re.Match[str], text: str, key: str) -> str:
        marks = found[1][: len(found[1]) // 2]
        if len(found[1]) % 2:
            return f"{marks}{found[0][len(found[1]) :]}"
        if not found[2]:
            raise SettingError(
                f"{self._where}: {key}: got {text[found.start() :][:100]!r}, expected the key of another setting in"
                " ${...}; the environment is not read: a key of a judge comes from judge.api_key_env (write \\${ for"
                " the characters themselves)"
            )
        value = self._target(found[2], key)
        if isinstance(value, dict | list):
            raise SettingError(
                f"{self._where}: {key}: ${{{found[2]}}} is a mapping or a list, expected text or a number"
            )
        return f"{marks}{value}"

    def _target(self, name: str, key: str) -> Any:
        if name in self._open or len(self._open) > 100:
            raise SettingError(f"{self._where}: {key}: ${{{name}}} refers to itself")
        if name not in self._known:
            self._open.append(name)
            self._known[name] = self.within(self._found(name, key), name)
            self._open.pop()
        return self._known[name]

    def _found(self, name: str, key: str) -> Any:
        value: Any = self._settings
        for part in name.split("."):
            if isinstance(value, Mapping) and part in value:
                value = value[part]
            elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
                value = value[int(part)]
            else:
                raise SettingError(f"{self._where}: {key}: ${{{name}}}: {name} is not in the file")
        return value


def _check_size(value: Any, where: str) -> None:
    left, count = [value], 0
    while left:
        each = left.pop()
        count += 1
        if count > _MOST_VALUES:
            raise SettingError(f"{where}: its references expand to more than {_MOST_VALUES:,} values")
        left.extend(each.values() if isinstance(each, dict) else each if isinstance(each, list) else ())
