"""From a YAML file of differences and `key.sub=value` overrides to a RunConfig.

yaml_settings.py reads and merges, pydantic validates. A mistake is a SettingError with one
line each: the key, what came, what was expected, the way out.
"""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from dar_jax.config.run_config import RunConfig, field_names, kinds_at, to_plain, validate
from dar_jax.errors import SettingError
from dar_jax.settings.foreign_names import answer, ours
from dar_jax.settings.refusals import refusal, shown
from dar_jax.settings.yaml_settings import merged, written
from dar_jax.settings.yaml_text import read_text


def read_config(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a config file, with overrides on top. Raises SettingError."""
    return parse_config(read_text(path), overrides, where=str(path))


def parse_config(text: str, overrides: Sequence[str] = (), *, where: str) -> RunConfig:
    """Read a config from YAML text, with overrides on top. Raises SettingError."""
    named = merged(text, overrides, where=where, of=RunConfig)
    try:
        return validate(named)
    except ValidationError as fault:
        lines = dict.fromkeys(_explain(error, named) for error in _told(fault.errors(), named))
        raise SettingError("\n".join(f"{where}: {line}" for line in lines)) from None


def to_yaml(config: RunConfig) -> str:
    """Return the resolved settings, without secrets, as YAML that `parse_config` reads back."""
    return written(to_plain(config))


def _told(errors: Sequence[Any], settings: dict[str, Any]) -> list[Any]:
    """Leave out what is missing under our name alone: `model_name_or_path` is answered with policy.path."""
    foreign = {ours(str(key)) or "" for key in settings}
    there = {key.partition(".")[0] for key in foreign}
    missing = ("missing", "missing_argument", "missing_keyword_only_argument")
    return [error for error in errors if error["type"] not in missing or ".".join(map(str, error["loc"])) not in there]


def _explain(error: Any, settings: dict[str, Any]) -> str:
    kind, came = error["type"], error.get("input")
    path = _path(error["loc"], settings, unknown=kind == "unexpected_keyword_argument")
    key = ".".join(path)
    if kind == "rooms_disagree":
        return str(error["msg"])
    if kind == "unexpected_keyword_argument":
        ways_out = [answer(key), _of_another_kind(path, settings)]
        return f"{key}: there is no such setting; {'; '.join(filter(None, ways_out)) or _nearest(path, settings)}"
    if kind in ("missing", "missing_argument", "missing_keyword_only_argument"):
        return f"{key}: missing; it has no default, so state it"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        names = error.get("ctx", {}).get("expected_tags", "")
        chosen = came.get("name") if isinstance(came, dict) else came
        return f"{key}.name: {shown(chosen)} is none of {names}" if names else f"{key}.name: missing; state it"
    if kind in ("dataclass_type", "model_attributes_type"):
        return f"{key}: got {shown(came)}, expected settings of its own (`{key}: {{key: value}}`)"
    return refusal(key, error)


def _path(loc: Sequence[Any], settings: dict[str, Any], unknown: bool) -> tuple[str, ...]:
    """Drop from pydantic's location the names of chosen components, which are no keys of the file."""
    path: tuple[str, ...] = ()
    for position, part in enumerate(map(str, loc)):
        last = position == len(loc) - 1
        item = isinstance(loc[position], int) and bool(path)
        if (last and unknown) or item or part in field_names(path, settings):
            path = (*path, part)
    return path


def _of_another_kind(path: tuple[str, ...], settings: dict[str, Any]) -> str | None:
    """Return the kinds that have a setting which the default kind, chosen by leaving `name` out, has not."""
    kinds = [kind for kind in kinds_at(path[:-1], settings) if path[-1] in kind.__dataclass_fields__]
    names = " or ".join(kind.name for kind in kinds)
    return f"it is a setting of {'.'.join((*path[:-1], 'name'))}={names}" if kinds else None


def _nearest(path: tuple[str, ...], settings: dict[str, Any]) -> str:
    known = field_names(path[:-1], settings)
    near = difflib.get_close_matches(path[-1], known, 1, cutoff=0.5)
    return f"did you mean {'.'.join((*path[:-1], near[0]))}?" if near else f"there are {', '.join(known)}"
