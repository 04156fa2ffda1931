"""How a setting that was refused is reported: what came, cut to a length one can read, and what was expected."""

from typing import Any

_LONGEST = 100
# Where pydantic's message is no name of what was expected.
_EXPECTED = {"int_parsing_size": "a whole number below 2147483648", "path_type": "a path"}


def shown(value: Any) -> str:
    """Return the repr of a value, cut to about 100 characters."""
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def refusal(key: str, error: Any) -> str:
    """Return one line about an error of pydantic's at `key`."""
    message = " ".join(str(error["msg"]).removeprefix("Value error, ").removeprefix("Input should be ").split())
    if error["type"] == "value_error":
        # A room's own message may repeat what came, at any length.
        short = message if len(message) <= 5 * _LONGEST else f"{message[: 3 * _LONGEST]}...{message[-_LONGEST:]}"
        return f"{key}: {short}" if key else short
    return f"{key}: got {shown(error.get('input'))}, expected {_EXPECTED.get(error['type'], message)}"
