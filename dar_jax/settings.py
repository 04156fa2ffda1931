"""How every component states its settings: a frozen, keyword-only pydantic dataclass.

The fields are the settings, the defaults are the vetted ones, and an unknown key is an error:

    @dataclass(frozen=True, kw_only=True, config=STRICT)
    class Thing:
        size: PositiveInt = 4
"""

from pydantic import ConfigDict

STRICT = ConfigDict(extra="forbid", validate_default=True)
