"""How every component states its settings: a frozen, keyword-only pydantic dataclass.

The fields are the settings, the defaults are the vetted ones, and an unknown key is an error:

    @dataclass(frozen=True, kw_only=True, config=STRICT)
    class Thing:
        size: Count = 4

Numbers, names and paths are of the types below: no boolean is a number, and none is infinite, not a number, or of a
size that float32 arithmetic, a clock or an index cannot hold.
"""

import math
import os
import typing
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, JsonValue
from pydantic_core import PydanticCustomError

# An input may be a key in the wrong field: pydantic's own text of an error does not repeat it.
STRICT = ConfigDict(extra="forbid", validate_default=True, allow_inf_nan=False, hide_input_in_errors=True)

LARGEST_INT = 2**31 - 1
SMALLEST, LARGEST = 1e-15, 1e15
_SIZES = f"0 or a size from {SMALLEST:g} to {LARGEST:g}"


def _no_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise PydanticCustomError("number_type", "a number")
    return value


def _sane(value: float) -> float:
    if value and not SMALLEST <= abs(value) <= LARGEST:
        raise PydanticCustomError("number_size", _SIZES)  # type: ignore[arg-type]
    return value


def _words(value: str) -> str:
    if not value.strip() or "\0" in value:
        raise PydanticCustomError("blank_text", "a text that is not blank")
    return value


def _home(value: str) -> str:
    return os.path.expanduser(value)


def _file(value: Any) -> Any:
    return _home(_words(os.fspath(value))) if isinstance(value, str | os.PathLike) else value


def _json(value: Any) -> Any:
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _json(each)
    if isinstance(value, float) and not math.isfinite(value):
        raise PydanticCustomError("json_number", "numbers that are finite")
    if isinstance(value, int) and abs(value) >= 2**63:
        raise PydanticCustomError("json_number", "whole numbers of 64 bits")
    return value


Integer = Annotated[int, BeforeValidator(_no_boolean), Field(ge=-LARGEST_INT, le=LARGEST_INT)]
Count = Annotated[int, BeforeValidator(_no_boolean), Field(gt=0, le=LARGEST_INT)]
CountOrZero = Annotated[int, BeforeValidator(_no_boolean), Field(ge=0, le=LARGEST_INT)]

Number = Annotated[float, BeforeValidator(_no_boolean), AfterValidator(_sane)]
Positive = Annotated[float, BeforeValidator(_no_boolean), Field(gt=0), AfterValidator(_sane)]
PositiveOrZero = Annotated[float, BeforeValidator(_no_boolean), Field(ge=0), AfterValidator(_sane)]
Share = Annotated[float, BeforeValidator(_no_boolean), Field(ge=0, le=1), AfterValidator(_sane)]
# Clocks overflow at 2**63 nanoseconds.
Seconds = Annotated[float, BeforeValidator(_no_boolean), Field(gt=0, le=1e9), AfterValidator(_sane)]
SecondsOrZero = Annotated[float, BeforeValidator(_no_boolean), Field(ge=0, le=1e9), AfterValidator(_sane)]

Name = Annotated[str, AfterValidator(_words)]
Prose = Annotated[str, AfterValidator(_words)]
# A folder, a file or a hub id; `~` is the home folder.
Place = Annotated[str, AfterValidator(_words), AfterValidator(_home)]
File = Annotated[Path, BeforeValidator(_file)]
# Values that a request or a template is given as they are.
Free = Annotated[JsonValue, AfterValidator(_json)]


def one_of(choices: dict[str, Any], default: str | None = None) -> Any:
    """Annotate a choice between components by their `name`; a name left out is `default`."""

    def with_name(given: Any) -> Any:
        unnamed = isinstance(given, dict) and "name" not in given
        return {"name": default, **given} if unnamed and default else given

    kinds = tuple(choices.values())
    union = Annotated[typing.Union[kinds], Field(discriminator="name")] if len(kinds) > 1 else kinds[0]  # noqa: UP007
    return Annotated[union, BeforeValidator(with_name)]
