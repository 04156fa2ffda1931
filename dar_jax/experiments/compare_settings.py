"""The `compare:` section of a config file, beside the settings of a run."""

from collections.abc import Sequence
from dataclasses import field, replace
from typing import Any

from pydantic.dataclasses import dataclass

from dar_jax.errors import SettingError
from dar_jax.settings.fields import STRICT, Count, Name, Number


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
    seeds: Count = 5
    annotations: Count | None = None
    evaluations: Count = 10
    grid: dict[str, list[Any]] | None = None
    tuning_seeds: Count = 1
    tuning_judge: Name | None = None
    level: Number | None = None

    def chosen(self, algorithms: Sequence[str] = (), judges: Sequence[str] = ()) -> "Comparison":
        """Return the settings with only these, in this order; all if none are named.

        An algorithm that is not listed has its defaults. Raises SettingError for a judge that is not listed.
        """
        if unknown := [name for name in judges if name not in self.judges]:
            listed = ", ".join(self.judges) or "none"
            raise SettingError(f"--judges: {unknown[0]} is none of compare.judges ({listed}); list it there")
        return replace(
            self,
            algorithms={name: self.algorithms.get(name) for name in algorithms or self.algorithms},
            judges={name: self.judges[name] for name in judges or self.judges},
        )
