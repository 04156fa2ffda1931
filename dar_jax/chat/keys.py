"""API keys and secret headers: reading them, sending them, and removing them from every text that comes back."""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import quote

from dar_jax.errors import SettingError

NO_KEY = "none"
HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HIDDEN = "***"
# A shorter header value is not a secret, and could be a word of an answer.
_SHORTEST = 8
# Some servers repeat the first characters of a key in their errors.
_PREFIX = 12
# JSON may write a backslash before these; a backslash itself becomes two or more.
_ESCAPED = frozenset('"/\\')


class Key:
    """An API key. `str`, `repr` and formats show `***`; pickling is refused; `reveal` is for the SDK only.

    `file` is the file it was read from, which `renew` reads again, or None.
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
            # The file may be incomplete at this moment: the server's refusal is the better error.
            return False
        if value == self._value:
            return False
        self.redact = Redaction([self._value, value])
        self._value, self.version = value, self.version + 1
        return True

    def __repr__(self) -> str:
        return _HIDDEN

    def __reduce__(self) -> str:
        raise TypeError("an API key cannot be pickled or copied")


class Credentials:
    """The key and secret headers of one server; their values are never printed.

    `headers_env` maps names of headers to environment variables; `headers_file` has lines `name: value`. `sdk_values`
    are values that the SDK adds to requests; they are redacted too. Raises SettingError if a source is empty.
    """

    def __init__(
        self,
        key: Key,
        headers_env: Mapping[str, str] | None = None,
        headers_file: Path | None = None,
        sdk_values: Iterable[str] = (),
    ) -> None:
        self.key, self._env, self._file = key, dict(headers_env or {}), headers_file
        self._changes = 0
        self._secrets = [value for value in sdk_values if len(value) >= _SHORTEST]
        self._headers = self._read_headers()
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
            headers = self._read_headers()
        except SettingError:
            headers = self._headers
        self._changes += headers != self._headers
        self._headers = headers
        self._redact = self._redaction()
        return self.version != version

    def __repr__(self) -> str:
        return _HIDDEN

    def __reduce__(self) -> str:
        raise TypeError("credentials cannot be pickled or copied")

    def _read_headers(self) -> dict[str, str]:
        of_env = {name: _from_variable(f"headers_env.{name}", variable) for name, variable in self._env.items()}
        return (_headers_of(self._file) if self._file else {}) | of_env

    def _redaction(self) -> "Redaction":
        self._secrets += [value for value in self._headers.values() if len(value) >= _SHORTEST]
        # A server may repeat only TOKEN of "Bearer TOKEN".
        parts = [part for value in self._secrets for part in (value, *value.split())]
        return Redaction([part for part in parts if len(part) >= _SHORTEST])


class Redaction:
    """Replaces secrets, and prefixes of 12 characters or more, by `***`: as they are, or as a URL or (nested) JSON
    writes them.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = [_Secret(secret) for secret in dict.fromkeys(secrets) if secret]

    def __call__(self, text: str) -> str:
        """Return the text without the secrets."""
        for secret in self._secrets:
            if any(sign in text for sign in secret.signs):
                text = secret.redact(text)
        return text


class _Secret:
    def __init__(self, value: str) -> None:
        self._head = re.compile("".join(map(_spelling, value[:_PREFIX])))
        self._tail = [re.compile(_spelling(character)) for character in value[_PREFIX:]]
        # Every text with the secret contains one of these, so that most texts need no regex search.
        special = {character for character in value[:_PREFIX] if quote(character, safe="") != character}
        percent = {form for each in special for form in (f"%{ord(each):02X}", f"%{ord(each):02x}")}
        escaped = {f"\\{character}" for character in special & _ESCAPED}
        self.signs = (value[:_PREFIX], "\\u00", *sorted(percent | escaped))

    def redact(self, text: str) -> str:
        kept, at = [], 0
        while found := self._head.search(text, at):
            kept.append(text[at : found.start()])
            at = self._end(text, found.end())
        return _HIDDEN.join([*kept, text[at:]])

    def _end(self, text: str, at: int) -> int:
        for spelling in self._tail:
            found = spelling.match(text, at)
            if found is None:
                break
            at = found.end()
        return at


def _spelling(character: str) -> str:
    """Return a pattern of a character, plain or escaped."""
    forms = [re.escape(character), rf"\\+u(?i:{ord(character):04x})", f"%(?i:{ord(character):02x})"]
    if character in _ESCAPED:
        forms.insert(0, r"\\+" if character == "\\" else rf"\\+{re.escape(character)}")
    return f"(?:{'|'.join(forms)})"


def find_key(file: Path | None, variable: str | None) -> Key:
    """Read a key from a file, else from an environment variable; return an empty key if both are None.

    Raises SettingError if the source is empty.
    """
    if file is not None:
        return Key(_from_file(file), file)
    return Key("" if variable is None else _from_variable("api_key_env", variable))


def _from_variable(setting: str, variable: str) -> str:
    value = os.environ.get(variable, "").strip()
    if not value:
        way_out = "set judge.api_key_file to a file with the key"
        if setting != "api_key_env":
            way_out = "set judge.headers_file to a file with the header"
        raise SettingError(
            f"judge.{setting}: the environment variable {variable} is not set; export {variable}=..., or {way_out}"
        )
    return value


def _from_file(file: Path, setting: str = "api_key_file") -> str:
    try:
        value = file.expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise SettingError(f"judge.{setting}: cannot read {file} ({reason}); expected a text file") from None
    if not value:
        content = "the key and nothing else" if setting == "api_key_file" else "lines `name: value`"
        raise SettingError(f"judge.{setting}: {file} is empty; expected {content}")
    return value


def _headers_of(file: Path) -> dict[str, str]:
    headers = {}
    for number, line in enumerate(_from_file(file, "headers_file").splitlines(), 1):
        name, colon, value = line.partition(":")
        if not line.strip() or line.startswith("#"):
            continue
        if not colon or not HEADER_NAME.fullmatch(name.strip()) or not value.strip():
            raise SettingError(
                f"judge.headers_file: {file}, line {number}: expected `name: value`; the line is not shown"
            )
        headers[name.strip()] = value.strip()
    return headers
