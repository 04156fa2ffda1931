"""A config file with a `compare:` section: the settings of a run, and what is compared."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from dar_jax.config.run_config import RunConfig
from dar_jax.errors import SettingError
from dar_jax.experiments.compare_settings import Comparison
from dar_jax.settings.hints import settings_of
from dar_jax.settings.refusals import refusal
from dar_jax.settings.yaml_settings import merged, written
from dar_jax.settings.yaml_text import read_text

_COMPARISON: TypeAdapter[Comparison] = TypeAdapter(Comparison)


def read_comparison(path: Path, overrides: Sequence[str] = ()) -> tuple[str, Comparison]:
    """Return the settings of a run as YAML text and what is compared, overrides on top.

    Raises SettingError, one line a mistake.
    """
    kinds = {**settings_of(RunConfig, None), "compare": Comparison}
    settings = merged(read_text(path), overrides, where=str(path), of=kinds)
    section = settings.pop("compare", None) or {}
    try:
        return written(settings), _COMPARISON.validate_python(section)
    except ValidationError as fault:
        raise SettingError("\n".join(dict.fromkeys(f"{path}: {_explain(error)}" for error in fault.errors()))) from None


def _explain(error: Any) -> str:
    key = ".".join(["compare", *map(str, error["loc"])])
    if error["type"] == "unexpected_keyword_argument":
        return f"{key}: there is no such setting; there are {', '.join(Comparison.__dataclass_fields__)}"
    return refusal(key, error)
