"""Addresses of servers, and which key belongs to which."""

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator

from dar_jax.chat.keys import Key, find_key


def checked_url(url: str) -> str:
    """Return a base URL without trailing slash. Raises ValueError if it is not a URL or contains a secret."""
    parts = urlsplit(url.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"got {_hidden(url)!r}, expected an address such as http://127.0.0.1:8000/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError(
            f"{parts.scheme}://{parts.hostname}... carries a name, a password or a query; "
            "the address is written to the run folder, so give the key by api_key_env or api_key_file"
        )
    return url.strip().rstrip("/")


def key_for(url: str, vendor_url: str, vendor_variable: str, file: Path | None, variable: str | None) -> Key:
    """Find the key of a server. The vendor's variable is used for the vendor's host only.

    A key exported for the vendor never reaches another server unless `variable` names it.
    """
    return find_key(file, variable or (vendor_variable if same_host(url, vendor_url) else None))


def same_host(url: str, other: str) -> bool:
    """Return whether two addresses have the same host."""
    return urlsplit(url).hostname == urlsplit(other).hostname


def _hidden(url: str) -> str:
    return url.rpartition("@")[2].partition("?")[0]


# The type of `base_url` in every wire.
Address = Annotated[str, AfterValidator(checked_url)]
