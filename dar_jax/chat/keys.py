"""API keys: where they come from, and a type that never prints one."""

import json
import os
from pathlib import Path
from urllib.parse import quote

from dar_jax.errors import SettingError

HIDDEN = "***"
NO_KEY = "none"


class Key:
    """An API key. `str`, `repr` and formats show `***`; pickling is refused; `reveal` is for the SDK only."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the key itself; for a server that asks for none, a placeholder, as the SDKs insist on a value."""
        return self._value or NO_KEY

    def redact(self, text: str) -> str:
        """Blot the key out of a text from outside, such as a server's error; also as JSON or a URL writes it."""
        if self._value:
            for form in {self._value, json.dumps(self._value)[1:-1], quote(self._value, safe="")}:
                text = text.replace(form, HIDDEN)
        return text

    def __repr__(self) -> str:
        return HIDDEN

    def __reduce__(self) -> str:
        raise TypeError("an API key is not written anywhere")


def find_key(file: Path | None, variable: str | None) -> Key:
    """Read a key from a file, else from an environment variable; with neither named, no key at all.

    Raises SettingError where the source that was named holds nothing.
    """
    if file is not None:
        return Key(_from_file(file))
    if variable is None:
        return Key("")
    value = os.environ.get(variable, "").strip()
    if not value:
        raise SettingError(
            f"judge.api_key_env: the environment variable {variable} is not set; "
            f"export {variable}=..., or name a file that holds the key: judge.api_key_file=PATH"
        )
    return Key(value)


def _from_file(file: Path) -> str:
    try:
        value = file.expanduser().read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SettingError(
            f"judge.api_key_file: cannot read {file} ({error.strerror}); it must be a text file with the key"
        ) from None
    if not value:
        raise SettingError(f"judge.api_key_file: {file} is empty; it must hold the key and nothing else")
    return value
