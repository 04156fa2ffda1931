"""From a YAML file of differences and `key.sub=value` overrides to a RunConfig.

OmegaConf reads and merges (yaml_settings.py), pydantic validates. A mistake is a SettingError with one
line each: the key, what came, what was expected, the way out.
"""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from pydantic import ValidationError

from dar_jax.config import RunConfig, field_names, to_plain, validate
from dar_jax.errors import SettingError
from dar_jax.yaml_settings import merged, read_text


def read_config(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a config file, with overrides on top. Raises SettingError."""
    return parse_config(read_text(path), overrides, where=str(path))


def parse_config(text: str, overrides: Sequence[str] = (), *, where: str) -> RunConfig:
    """Read a config from YAML text, with overrides on top. Raises SettingError."""
    named = merged(text, overrides, where=where)
    try:
        return validate(named)
    except ValidationError as fault:
        lines = dict.fromkeys(_explain(error, named) for error in fault.errors())
        raise SettingError("\n".join(f"{where}: {line}" for line in lines)) from None


def to_yaml(config: RunConfig) -> str:
    """Write the resolved settings, without secrets."""
    return str(OmegaConf.to_yaml(OmegaConf.create(_literal(to_plain(config)))))


def _literal(value: Any) -> Any:
    """Keep `${...}` in a text what it is: words, read back as they were."""
    if isinstance(value, dict):
        return {key: _literal(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_literal(item) for item in value]
    # Backslashes before it count, as OmegaConf reads them.
    return re.sub(r"(\\*)\$\{", lambda found: f"{found[1] * 2}\\${{", value) if isinstance(value, str) else value


def _explain(error: Any, settings: dict[str, Any]) -> str:
    kind, came = error["type"], error.get("input")
    path = _path(error["loc"], settings, unknown=kind == "unexpected_keyword_argument")
    key = ".".join(path)
    if kind == "rooms_disagree":
        return str(error["msg"])
    if kind == "unexpected_keyword_argument":
        return f"{key}: there is no such setting{_nearest(path, settings)}"
    if kind in ("missing", "missing_argument", "missing_keyword_only_argument"):
        return f"{key}: missing; it has no default, so state it"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        names = error.get("ctx", {}).get("expected_tags", "")
        chosen = came.get("name") if isinstance(came, dict) else came
        return f"{key}.name: {chosen!r} is none of {names}" if names else f"{key}.name: missing; state it"
    if kind in ("dataclass_type", "model_attributes_type"):
        return f"{key}: got {came!r}, expected settings of its own (`{key}: {{key: value}}`)"
    message = str(error["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")
    if kind == "value_error":
        return f"{key}: {message}" if key else message
    return f"{key}: got {came!r}, expected {message}"


def _path(loc: Sequence[Any], settings: dict[str, Any], unknown: bool) -> tuple[str, ...]:
    """Drop from pydantic's location the names of chosen components, which are no keys of the file."""
    path: tuple[str, ...] = ()
    for position, part in enumerate(map(str, loc)):
        last = position == len(loc) - 1
        item = isinstance(loc[position], int) and bool(path)
        if (last and unknown) or item or part in field_names(path, settings):
            path = (*path, part)
    return path


def _nearest(path: tuple[str, ...], settings: dict[str, Any]) -> str:
    known = field_names(path[:-1], settings)
    near = difflib.get_close_matches(path[-1], known, 1, cutoff=0.5)
    return f"; did you mean {'.'.join((*path[:-1], near[0]))}?" if near else f"; there are {', '.join(known)}"
