"""Redact secrets in texts from outside, in any spelling."""

import re
from collections.abc import Iterable
from urllib.parse import quote

HIDDEN = "***"
# A server that says back the first characters of a key says back a part of a secret.
_PREFIX = 12
# Within JSON these may stand behind a backslash; a backslash itself is two or more.
_ESCAPED = frozenset('"/\\')


class Redaction:
    """Replaces secrets, and prefixes of them of 12 characters or more; also as a URL or JSON writes them, with `\\u`
    escapes, or as JSON within JSON.
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
        # One of these is in every text that holds the secret: most texts are searched no further.
        special = {character for character in value[:_PREFIX] if quote(character, safe="") != character}
        percent = {form for each in special for form in (f"%{ord(each):02X}", f"%{ord(each):02x}")}
        behind = {f"\\{character}" for character in special & _ESCAPED}
        self.signs = (value[:_PREFIX], "\\u00", *sorted(percent | behind))

    def redact(self, text: str) -> str:
        kept, at = [], 0
        while found := self._head.search(text, at):
            kept.append(text[at : found.start()])
            at = self._end(text, found.end())
        return HIDDEN.join([*kept, text[at:]])

    def _end(self, text: str, at: int) -> int:
        for spelling in self._tail:
            found = spelling.match(text, at)
            if found is None:
                break
            at = found.end()
        return at


def _spelling(character: str) -> str:
    """Return the pattern of a character as it is, or escaped."""
    forms = [re.escape(character), rf"\\+u(?i:{ord(character):04x})", f"%(?i:{ord(character):02x})"]
    if character in _ESCAPED:
        forms.insert(0, r"\\+" if character == "\\" else rf"\\+{re.escape(character)}")
    return f"(?:{'|'.join(forms)})"
