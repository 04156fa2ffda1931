"""The `compare:` section of a config file, beside the settings of a run."""

import json
from collections.abc import Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import Any

from pydantic import PositiveInt, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from dar_jax.errors import SettingError
from dar_jax.settings import STRICT
from dar_jax.yaml_settings import merged, read_text


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Comparison:
    """What is compared: `algorithms` and `judges`, by names of your own, each with the settings that it changes; an
    algorithm's name without `algorithm.name` is the algorithm of that name.

    Each run may ask `annotations` of its judge, whatever its algorithm (null: what the first takes in the config's
    steps), and is evaluated about `evaluations` times. `seeds` runs of each begin with the config's own seed. With a
    `grid` each algorithm takes the point of the grid with the highest held-out reward over `tuning_seeds` runs of other
    seeds: under each judge its own, or under all that of the `tuning_judge`. `level` is the held-out reward that
    annotations are counted to (null: the highest that all algorithms reach).
    """

    algorithms: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    judges: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    seeds: PositiveInt = 5
    annotations: PositiveInt | None = None
    evaluations: PositiveInt = 10
    grid: dict[str, list[Any]] | None = None
    tuning_seeds: PositiveInt = 1
    tuning_judge: str | None = None
    level: float | None = None

    def chosen(self, algorithms: Sequence[str] = (), judges: Sequence[str] = ()) -> "Comparison":
        """Keep these, in this order; all where none are named. An algorithm that is not listed is taken as it is.

        Raises SettingError for a judge that is not listed.
        """
        if unknown := [name for name in judges if name not in self.judges]:
            listed = ", ".join(self.judges) or "none"
            raise SettingError(f"--judges: {unknown[0]} is none of compare.judges ({listed}); list it there")
        return replace(
            self,
            algorithms={name: self.algorithms.get(name) for name in algorithms or self.algorithms},
            judges={name: self.judges[name] for name in judges or self.judges},
        )


_COMPARISON: TypeAdapter[Comparison] = TypeAdapter(Comparison)


def read_comparison(path: Path, overrides: Sequence[str] = ()) -> tuple[str, Comparison]:
    """Read a config file with overrides on top: the settings of a run as YAML text, and what is compared.

    Raises SettingError, one line a mistake.
    """
    settings = merged(read_text(path), overrides, where=str(path))
    section = settings.pop("compare", None) or {}
    try:
        return json.dumps(settings), _COMPARISON.validate_python(section)
    except ValidationError as fault:
        raise SettingError("\n".join(dict.fromkeys(f"{path}: {_explain(error)}" for error in fault.errors()))) from None


def _explain(error: Any) -> str:
    key = ".".join(["compare", *map(str, error["loc"])])
    if error["type"] == "unexpected_keyword_argument":
        return f"{key}: there is no such setting; there are {', '.join(Comparison.__dataclass_fields__)}"
    message = str(error["msg"]).removeprefix("Input should be ")
    return f"{key}: got {error.get('input')!r}, expected {message}"
