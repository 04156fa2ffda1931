"""A config file with a `compare:` section: the settings of a run, and what is compared."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from dar_jax.config.run_config import RunConfig
from dar_jax.experiments.compare_settings import Comparison
from dar_jax.settings.hints import hints_of
from dar_jax.settings.refusals import setting_error
from dar_jax.settings.yaml_settings import merged, written
from dar_jax.settings.yaml_text import read_text

_COMPARISON: TypeAdapter[Comparison] = TypeAdapter(Comparison)


def read_comparison(path: Path, overrides: Sequence[str] = ()) -> tuple[str, Comparison]:
    """Return the settings of a run as YAML text, and the comparison, with overrides applied.

    Raises SettingError, one line a mistake.
    """
    of = {**hints_of(RunConfig), "compare": Comparison}
    settings = merged(read_text(path), overrides, where=str(path), of=of)
    section = settings.get("compare") or {}
    run = {key: value for key, value in settings.items() if key != "compare"}
    try:
        return written(run), _COMPARISON.validate_python(section)
    except ValidationError as fault:
        raise setting_error(fault.errors(), settings, of, str(path), section=("compare",)) from None
