"""Field types of settings. Every component declares its settings as a frozen, keyword-only pydantic dataclass:

    @dataclass(frozen=True, kw_only=True, config=STRICT)
    class Thing:
        size: Count = 4
        workers: FreeOnResume[Count] = 8

The fields are the settings, the defaults are the vetted ones, and an unknown key is an error. A resumed run may change
the fields marked `FreeOnResume`; any other change would make it a different run. The number types refuse booleans, NaN,
infinities, and sizes that float32 arithmetic, a clock or an index cannot hold.
"""

import math
import os
import typing
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, JsonValue
from pydantic_core import PydanticCustomError

# The input may be a secret in the wrong field: pydantic's error text does not repeat it.
STRICT = ConfigDict(extra="forbid", validate_default=True, allow_inf_nan=False, hide_input_in_errors=True)

LARGEST_INT = 2**31 - 1
SMALLEST, LARGEST = 1e-15, 1e15
_SIZES = f"0 or a size from {SMALLEST:g} to {LARGEST:g}"


def _not_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise PydanticCustomError("number_type", "a number")
    return value


def _in_range(value: float) -> float:
    if value and not SMALLEST <= abs(value) <= LARGEST:
        raise PydanticCustomError("number_size", _SIZES)  # type: ignore[arg-type]
    return value


def _not_blank(value: str) -> str:
    if not value.strip() or "\0" in value:
        raise PydanticCustomError("blank_text", "a text that is not blank")
    return value


def _with_home(value: str) -> str:
    return os.path.expanduser(value)


def _file(value: Any) -> Any:
    return _with_home(_not_blank(os.fspath(value))) if isinstance(value, str | os.PathLike) else value


def _finite_json(value: Any) -> Any:
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _finite_json(each)
    if isinstance(value, float) and not math.isfinite(value):
        raise PydanticCustomError("json_number", "numbers that are finite")
    if isinstance(value, int) and abs(value) >= 2**63:
        raise PydanticCustomError("json_number", "whole numbers of 64 bits")
    return value


Integer = Annotated[int, BeforeValidator(_not_boolean), Field(ge=-LARGEST_INT, le=LARGEST_INT)]
Count = Annotated[int, BeforeValidator(_not_boolean), Field(gt=0, le=LARGEST_INT)]
CountOrZero = Annotated[int, BeforeValidator(_not_boolean), Field(ge=0, le=LARGEST_INT)]

Number = Annotated[float, BeforeValidator(_not_boolean), AfterValidator(_in_range)]
Positive = Annotated[float, BeforeValidator(_not_boolean), Field(gt=0), AfterValidator(_in_range)]
PositiveOrZero = Annotated[float, BeforeValidator(_not_boolean), Field(ge=0), AfterValidator(_in_range)]
Share = Annotated[float, BeforeValidator(_not_boolean), Field(ge=0, le=1), AfterValidator(_in_range)]
# Clocks overflow at 2**63 nanoseconds.
Seconds = Annotated[float, BeforeValidator(_not_boolean), Field(gt=0, le=1e9), AfterValidator(_in_range)]
SecondsOrZero = Annotated[float, BeforeValidator(_not_boolean), Field(ge=0, le=1e9), AfterValidator(_in_range)]

Name = Annotated[str, AfterValidator(_not_blank)]
Prose = Annotated[str, AfterValidator(_not_blank)]
# A folder, a file or a hub id; `~` is the home folder.
PathOrId = Annotated[str, AfterValidator(_not_blank), AfterValidator(_with_home)]
File = Annotated[Path, BeforeValidator(_file)]
# A value passed unchanged to a request or a template.
FiniteJson = Annotated[JsonValue, AfterValidator(_finite_json)]

# The mark of `FreeOnResume` in a type hint.
FREE_ON_RESUME = "free on resume"
_T = TypeVar("_T")
FreeOnResume = Annotated[_T, FREE_ON_RESUME]


def one_of(choices: dict[str, Any], default: str | None = None) -> Any:
    """Return the type of a component chosen by its `name`; without a name it is the `default`."""

    def with_name(given: Any) -> Any:
        unnamed = isinstance(given, dict) and "name" not in given
        return {"name": default, **given} if unnamed and default else given

    kinds = tuple(choices.values())
    union = Annotated[typing.Union[kinds], Field(discriminator="name")] if len(kinds) > 1 else kinds[0]  # noqa: UP007
    return Annotated[union, BeforeValidator(with_name)]
