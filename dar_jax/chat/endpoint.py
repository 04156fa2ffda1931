"""Settings that say where a server is and where its key is; none of them shows a value that may be a key."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator

from dar_jax.chat.keys import HEADER_NAME, Key, find_key
from dar_jax.settings.fields import File, Name

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_KEY_PREFIX = re.compile(r"(sk|pk|gsk|hf|xai|nvapi|AIza|eyJ)[-_A-Za-z0-9]{8}")


def checked_url(url: str) -> str:
    """Return a base URL without trailing slash. Raises ValueError if it is not a URL or contains a secret."""
    parts = urlsplit(url.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        public = url.rpartition("@")[2].partition("?")[0]
        raise ValueError(f"got {public!r}, expected an address such as http://127.0.0.1:8000/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError(
            f"{parts.scheme}://{parts.hostname}... contains a user name, a password or a query; the address is written"
            " to the run folder, so set api_key_env or api_key_file to pass the key"
        )
    return url.strip().rstrip("/")


def key_for(url: str, vendor_url: str, vendor_variable: str, file: Path | None, variable: str | None) -> Key:
    """Find the key of a server; the vendor's variable is used for the vendor's host only.

    A key exported for the vendor never reaches another server unless `variable` names it.
    """
    return find_key(file, variable or (vendor_variable if same_host(url, vendor_url) else None))


def same_host(url: str, other: str) -> bool:
    """Return whether two addresses have the same host."""
    return urlsplit(url).hostname == urlsplit(other).hostname


def looks_like_key(text: str) -> bool:
    """Return whether a text looks like a key rather than the name of a variable or file."""
    lower, upper, digit = (re.search(pattern, text) is not None for pattern in ("[a-z]", "[A-Z]", "[0-9]"))
    mixed = lower and upper and digit and len(text) >= 16
    unbroken = digit and len(text) >= 20 and not re.search(r"[_./\\ ]", text)
    return mixed or unbroken or (digit and _KEY_PREFIX.match(text) is not None) or text.startswith("sk-")


def _check_variable(given: Any) -> Any:
    if given is None or (isinstance(given, str) and _VARIABLE.fullmatch(given) and not looks_like_key(given)):
        return given
    raise ValueError(
        "the value is not the name of an environment variable (letters, digits and _) and is not shown, as it may be a"
        " key; export the key, such as MY_KEY=..., and set the name: MY_KEY"
    )


def _check_file(given: Any) -> Any:
    text = str(given)
    if given is not None and looks_like_key(text) and "/" not in text and not Path(text).expanduser().exists():
        raise ValueError(
            "the value looks like a key, not like a file, and is not shown; write the key to a file and set the"
            " file's path"
        )
    return given


def _check_headers(given: Any) -> Any:
    if not isinstance(given, Mapping):
        raise ValueError("expected names of headers and of environment variables, such as {api-key: AZURE_KEY}")
    for name, variable in given.items():
        if not isinstance(name, str) or not HEADER_NAME.fullmatch(name) or _KEY_PREFIX.match(name):
            raise ValueError("a header's name is not valid and is not shown, as it may be a key")
        _check_variable(variable or "")
    return given


Address = Annotated[str, AfterValidator(checked_url)]
VariableName = Annotated[Name | None, BeforeValidator(_check_variable)]
SecretFile = Annotated[File | None, BeforeValidator(_check_file)]
HeaderVariables = Annotated[dict[str, str], BeforeValidator(_check_headers)]
