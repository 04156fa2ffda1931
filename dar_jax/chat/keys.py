"""API keys: where they come from, and a type that never prints one."""

import os
from pathlib import Path

from dar_jax.errors import SettingError

HIDDEN = "***"


class Key:
    """An API key. `str`, `repr` and formats show `***`; pickling is refused; `reveal` is for the SDK only."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the key itself."""
        return self._value

    def redact(self, text: str) -> str:
        """Blot the key out of a text from outside, such as a server's error message."""
        return text.replace(self._value, HIDDEN) if self._value else text

    def __repr__(self) -> str:
        return HIDDEN

    def __reduce__(self) -> str:
        raise TypeError("an API key is not written anywhere")


# What goes to a server that asks for no key; the SDKs insist on some value.
NO_KEY = "none"


def find_key(file: Path | None, variable: str | None) -> Key:
    """Read a key from a file, else from an environment variable; with neither named, a placeholder.

    Raises SettingError where the source that was named holds nothing.
    """
    if file is not None:
        return Key(_from_file(file))
    if variable is None:
        return Key(NO_KEY)
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
