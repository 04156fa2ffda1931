"""One line for each setting that pydantic refuses: the key, what came, what was expected, the way out."""

import difflib
from collections.abc import Callable, Sequence
from typing import Any

from dar_jax.errors import SettingError
from dar_jax.settings.hints import components, field_names, hint_at

MISSING = ("missing", "missing_argument", "missing_keyword_only_argument")
_LONGEST = 100
# Where pydantic's message does not describe what was expected.
_EXPECTED = {"int_parsing_size": "a whole number below 2147483648", "path_type": "a path"}


def setting_error(
    errors: Sequence[Any],
    settings: Any,
    of: Any,
    where: str,
    *,
    section: tuple[str, ...] = (),
    replacement: Callable[[str], str | None] = lambda key: None,
) -> SettingError:
    """Return the SettingError for pydantic's errors in `settings` of the type `of`, one line each.

    `where` names the file; `section` is the path of the validated part. `replacement` returns what to write in place of
    a key that does not exist.
    """
    lines = []
    for error in errors:
        unknown = error["type"] == "unexpected_keyword_argument"
        path = _path((*section, *error["loc"]), settings, of, unknown=unknown)
        key = ".".join(path)
        if unknown:
            ways_out = filter(None, [replacement(key), _other_component(path, settings, of)])
            line = f"{key}: there is no such setting; {'; '.join(ways_out) or _nearest(path, settings, of)}"
        else:
            line = refusal(key, error)
        lines.append(f"{where}: {line}")
    return SettingError("\n".join(dict.fromkeys(lines)))


def refusal(key: str, error: Any) -> str:
    """Return one line about one of pydantic's errors at `key`."""
    kind, came = error["type"], error.get("input")
    message = " ".join(str(error["msg"]).removeprefix("Value error, ").removeprefix("Input should be ").split())
    if kind == "value_error":
        # A validator's own message may repeat the input, at any length.
        short = message if len(message) <= 5 * _LONGEST else f"{message[: 3 * _LONGEST]}...{message[-_LONGEST:]}"
        return f"{key}: {short}" if key else short
    if kind in MISSING:
        return f"{key}: missing; it has no default, so state it"
    if kind == "union_tag_not_found":
        return f"{key}.name: missing; state it"
    if kind == "union_tag_invalid":
        key, came = f"{key}.name", came.get("name") if isinstance(came, dict) else came
        message = f"one of {error['ctx']['expected_tags'].replace(chr(39), '')}"
    if kind in ("dataclass_type", "model_attributes_type"):
        message = f"settings of its own (`{key}: {{key: value}}`)"
    return f"{key}: got {shown(came)}, expected {_EXPECTED.get(kind, message)}"


def shown(value: Any) -> str:
    """Return the repr of a value, truncated to 100 characters."""
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _path(loc: Sequence[Any], settings: Any, of: Any, *, unknown: bool) -> tuple[str, ...]:
    """Return pydantic's location without the names of chosen components, which are not keys of the file."""
    path: tuple[str, ...] = ()
    for position, part in enumerate(map(str, loc)):
        last = position == len(loc) - 1
        item = isinstance(loc[position], int) and bool(path)
        if (last and unknown) or item or part in field_names(path, of, settings):
            path = (*path, part)
    return path


def _other_component(path: tuple[str, ...], settings: Any, of: Any) -> str | None:
    """Return which components have the setting, if the default one, chosen by leaving `name` out, does not."""
    kinds = [kind for kind in components(*hint_at(path[:-1], of, settings)) if path[-1] in kind.__dataclass_fields__]
    names = " or ".join(kind.name for kind in kinds)
    return f"it is a setting of {'.'.join((*path[:-1], 'name'))}={names}" if kinds else None


def _nearest(path: tuple[str, ...], settings: Any, of: Any) -> str:
    known = field_names(path[:-1], of, settings)
    near = difflib.get_close_matches(path[-1], known, 1, cutoff=0.5)
    return f"did you mean {'.'.join((*path[:-1], near[0]))}?" if near else f"expected one of {', '.join(known)}"
