"""API keys and secret headers: where they are read from, and types that never print them."""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator

from dar_jax.chat.redaction import HIDDEN, Redaction
from dar_jax.errors import SettingError
from dar_jax.settings.fields import File, Name

NO_KEY = "none"
# A shorter value of a header is no secret, and might be a word of an answer.
_SHORTEST = 8
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_PREFIXED = re.compile(r"(sk|pk|gsk|hf|xai|nvapi|AIza|eyJ)[-_A-Za-z0-9]{8}")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


class Key:
    """An API key. `str`, `repr` and formats show `***`; pickling is refused; `reveal` is for the SDK only.

    `file` is where it was read from, if it was: `renew` reads it again.
    """

    __slots__ = ("_file", "_value", "redact", "version")

    def __init__(self, value: str, file: Path | None = None) -> None:
        self._value, self._file, self.version = value, file, 0
        self.redact = Redaction([value])

    def reveal(self) -> str:
        """Return the key, or a placeholder for a server without keys, as the SDKs require a value."""
        return self._value or NO_KEY

    def renew(self, version: int) -> bool:
        """Read the key's file again; return whether the key differs from that of `version`.

        Keys of some clouds expire after an hour.
        """
        if self._file is None or self.version != version:
            return self.version != version
        try:
            value = _from_file(self._file)
        except SettingError:
            # Being written at this moment: the server's refusal of the old key is the better reason.
            return False
        if value == self._value:
            return False
        self.redact = Redaction([self._value, value])
        self._value, self.version = value, self.version + 1
        return True

    def __repr__(self) -> str:
        return HIDDEN

    def __reduce__(self) -> str:
        raise TypeError("an API key is not written anywhere")


class Credentials:
    """The key and secret headers of one server; their values are never printed.

    `headers_env` maps names of headers to environment variables; `headers_file` holds lines `name: value`. `beside`
    are values that the SDK adds to requests; they are redacted too. Raises SettingError if a source is empty.
    """

    def __init__(
        self,
        key: Key,
        headers_env: Mapping[str, str] | None = None,
        headers_file: Path | None = None,
        beside: Iterable[str] = (),
    ) -> None:
        self.key, self._env, self._file = key, dict(headers_env or {}), headers_file
        self._changes = 0
        self._said = [value for value in beside if len(value) >= _SHORTEST]
        self._headers = self._found()
        self._redact = self._redaction()

    def headers(self) -> dict[str, str]:
        """Return the headers with their values, for the request only."""
        return dict(self._headers)

    def redact(self, text: str) -> str:
        """Return a text without the key and the headers' values."""
        return self._redact(self.key.redact(text))

    @property
    def version(self) -> int:
        """The number of changes of the key or a header."""
        return self._changes + self.key.version

    def renew(self, version: int) -> bool:
        """Read the files again; return whether the key or a header differs from `version`."""
        if self.version != version:
            return True
        self.key.renew(self.key.version)
        try:
            found = self._found()
        except SettingError:
            found = self._headers
        self._changes += found != self._headers
        self._headers = found
        self._redact = self._redaction()
        return self.version != version

    def __repr__(self) -> str:
        return HIDDEN

    def __reduce__(self) -> str:
        raise TypeError("credentials are not written anywhere")

    def _found(self) -> dict[str, str]:
        of_env = {name: _from_variable(f"headers_env.{name}", variable) for name, variable in self._env.items()}
        return (_headers_of(self._file) if self._file else {}) | of_env

    def _redaction(self) -> Redaction:
        self._said += [value for value in self._headers.values() if len(value) >= _SHORTEST]
        # "Bearer TOKEN" is said back as the token alone.
        return Redaction([part for value in self._said for part in (value, *value.split()) if len(part) >= _SHORTEST])


def find_key(file: Path | None, variable: str | None) -> Key:
    """Read a key from a file, else from an environment variable; with neither named, no key at all.

    Raises SettingError if the named source is empty.
    """
    if file is not None:
        return Key(_from_file(file), file)
    return Key("" if variable is None else _from_variable("api_key_env", variable))


def looks_like_key(text: str) -> bool:
    """Return whether a text looks like a key rather than like the name of a variable or a file."""
    lower, upper, digit = (re.search(pattern, text) is not None for pattern in ("[a-z]", "[A-Z]", "[0-9]"))
    mixed = lower and upper and digit and len(text) >= 16
    unbroken = digit and len(text) >= 20 and not re.search(r"[_./\\ ]", text)
    return mixed or unbroken or (digit and _PREFIXED.match(text) is not None) or text.startswith("sk-")


def _variable(given: Any) -> Any:
    if given is None or (isinstance(given, str) and _NAME.fullmatch(given) and not looks_like_key(given)):
        return given
    raise ValueError(
        "what was given is no name of an environment variable (letters, digits and _) and is not shown, as it may be a"
        " key; export it, such as MY_KEY=..., and state the name: MY_KEY"
    )


def _file(given: Any) -> Any:
    text = str(given)
    if given is not None and looks_like_key(text) and "/" not in text and not Path(text).expanduser().exists():
        raise ValueError(
            "what was given looks like a key, not like a file, and is not shown; write the key into a file and state"
            " the file's path"
        )
    return given


def _headers(given: Any) -> Any:
    if not isinstance(given, Mapping):
        raise ValueError("expected names of headers and of environment variables, such as {api-key: AZURE_KEY}")
    for name, variable in given.items():
        if not isinstance(name, str) or not _HEADER.fullmatch(name) or _PREFIXED.match(name):
            raise ValueError("what was given as a header's name is none and is not shown, as it may be a key")
        _variable(variable or "")
    return given


# The types of the settings that name where a secret is: none of them shows what it was given.
VariableName = Annotated[Name | None, BeforeValidator(_variable)]
SecretFile = Annotated[File | None, BeforeValidator(_file)]
HeaderVariables = Annotated[dict[str, str], BeforeValidator(_headers)]


def _from_variable(setting: str, variable: str) -> str:
    value = os.environ.get(variable, "").strip()
    if not value:
        way_out = "name a file that holds the key: judge.api_key_file=PATH"
        if setting != "api_key_env":
            way_out = "write the header into a file: judge.headers_file=PATH"
        raise SettingError(
            f"judge.{setting}: the environment variable {variable} is not set; export {variable}=..., or {way_out}"
        )
    return value


def _from_file(file: Path, setting: str = "api_key_file") -> str:
    try:
        value = file.expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise SettingError(f"judge.{setting}: cannot read {file} ({reason}); it must be a text file") from None
    if not value:
        content = "the key and nothing else" if setting == "api_key_file" else "lines `name: value`"
        raise SettingError(f"judge.{setting}: {file} is empty; it must hold {content}")
    return value


def _headers_of(file: Path) -> dict[str, str]:
    headers = {}
    for number, line in enumerate(_from_file(file, "headers_file").splitlines(), 1):
        name, colon, value = line.partition(":")
        if not line.strip() or line.startswith("#"):
            continue
        if not colon or not _HEADER.fullmatch(name.strip()) or not value.strip():
            raise SettingError(f"judge.headers_file: {file}, line {number}: expected `name: value`; it is not shown")
        headers[name.strip()] = value.strip()
    return headers
