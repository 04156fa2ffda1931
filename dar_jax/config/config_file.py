"""Config files: YAML that states differences from the defaults, and `key.sub=value` overrides, to a RunConfig.

settings/yaml_settings.py reads and merges, pydantic validates. Each mistake is one line of a SettingError: the key,
what came, what was expected, the way out.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from dar_jax.config.run_config import RunConfig, to_plain, validate
from dar_jax.settings.foreign_names import our_key, replacement
from dar_jax.settings.refusals import MISSING, setting_error
from dar_jax.settings.yaml_settings import merged, written
from dar_jax.settings.yaml_text import read_text


def read_config(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a config file and apply overrides. Raises SettingError."""
    return parse_config(read_text(path), overrides, where=str(path))


def parse_config(text: str, overrides: Sequence[str] = (), *, where: str) -> RunConfig:
    """Read a config from YAML text and apply overrides. Raises SettingError, which names the file `where`."""
    settings = merged(text, overrides, where=where, of=RunConfig)
    try:
        return validate(settings)
    except ValidationError as fault:
        errors = _without_renamed(fault.errors(), settings)
        raise setting_error(errors, settings, RunConfig, where, replacement=replacement) from None


def to_yaml(config: RunConfig) -> str:
    """Return the resolved settings, without secrets, as YAML that `parse_config` reads back."""
    return written(to_plain(config))


def _without_renamed(errors: Sequence[Any], settings: dict[str, Any]) -> list[Any]:
    """Return the errors without `policy: missing` if `model_name_or_path`, say, is already answered by policy.path."""
    renamed = {(our_key(str(key)) or "").partition(".")[0] for key in settings}
    return [
        error for error in errors if error["type"] not in MISSING or ".".join(map(str, error["loc"])) not in renamed
    ]
