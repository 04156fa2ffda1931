"""How every component states its settings: a frozen, keyword-only pydantic dataclass.

The fields are the settings, the defaults are the vetted ones, and an unknown key is an error:

    @dataclass(frozen=True, kw_only=True, config=STRICT)
    class Thing:
        size: PositiveInt = 4
"""

import typing
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field

STRICT = ConfigDict(extra="forbid", validate_default=True)


def one_of(choices: dict[str, Any], default: str | None = None) -> Any:
    """Annotate a choice between components by their `name`; a name left out is `default`."""

    def with_name(given: Any) -> Any:
        unnamed = isinstance(given, dict) and "name" not in given
        return {"name": default, **given} if unnamed and default else given

    kinds = tuple(choices.values())
    union = Annotated[typing.Union[kinds], Field(discriminator="name")] if len(kinds) > 1 else kinds[0]  # noqa: UP007
    return Annotated[union, BeforeValidator(with_name)]
