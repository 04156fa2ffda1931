"""The cells of a comparison or a sweep: its runs, at equal annotations."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dar_jax.algorithms import ALGORITHMS
from dar_jax.config.config_file import parse_config
from dar_jax.config.run_config import RunConfig
from dar_jax.errors import SettingError
from dar_jax.experiments.compare_settings import Comparison
from dar_jax.experiments.fairness import asked_a_step, check
from dar_jax.experiments.grid import Changes, folder, overrides, points, written

_TUNING_SEEDS_FROM = 1_000


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run: under which judge, what it is called, its point of a grid, its settings, where it lies within the
    comparison's folder.
    """

    judge: str
    name: str
    point: Changes
    config: RunConfig
    place: Path

    @property
    def seed(self) -> int:
        """The seed, which pairs it with runs of other algorithms."""
        return self.config.seed

    @property
    def asked_a_step(self) -> int:
        """The annotations of a step; 0 without a judge."""
        return asked_a_step(self.config)


@dataclass(frozen=True, kw_only=True)
class ExperimentPlan:
    """What the cells have in common: the run's settings as YAML `text`, read `where`; what is compared; how many
    `annotations` each may take; the `folder` for all.
    """

    text: str
    where: str
    comparison: Comparison
    base: RunConfig
    annotations: int
    folder: Path

    def compared(self, best: Mapping[tuple[str, str], Changes]) -> list[Cell]:
        """Return the compared runs, each algorithm at its `best` point by judge and name; with a grid those without a
        best point are left out.
        """
        tuning = self.comparison.tuning_judge
        tuned = {(judge, name): best.get((tuning or judge, name)) for judge, name in self._pairs()}
        return [
            self._cell(judge, name, self.algorithm(name), point or {}, Path(name), seed)
            for (judge, name), point in tuned.items()
            if not self.comparison.grid or point is not None
            for seed in self._seeds(self.comparison.seeds)
        ]

    def tuning(self) -> list[Cell]:
        """Return the tuning runs, evaluated only at their end; [] without a grid."""
        if not self.comparison.grid:
            return []
        return [
            _evaluated_once(self._cell(judge, name, self.algorithm(name), point, place, seed))
            for judge, name in self._pairs()
            if self.comparison.tuning_judge in (None, judge)
            for point in points(self.comparison.grid)
            for place in [Path(name, "tuning", folder(point))]
            for seed in self._seeds(self.comparison.tuning_seeds, _TUNING_SEEDS_FROM)
        ]

    def swept(self, grid: Mapping[str, Sequence[Any]]) -> list[Cell]:
        """Return the runs of a sweep, at each point of the grid."""
        return [
            self._cell("", written(point), {}, point, Path(folder(point)), seed)
            for point in points(grid)
            for seed in self._seeds(self.comparison.seeds)
        ]

    def algorithm(self, name: str) -> Changes:
        """Return the changes of an algorithm; by default the algorithm of that name."""
        changes = self.comparison.algorithms.get(name) or {}
        named = name not in ALGORITHMS or not changes.keys().isdisjoint({"algorithm", "algorithm.name"})
        return changes if named else {"algorithm.name": name, **changes}

    def config(self, changes: Changes, more: Sequence[str] = ()) -> RunConfig:
        """Return the run's settings with these changes."""
        return parse_config(self.text, [*overrides(changes), *more], where=self.where)

    def _pairs(self) -> list[tuple[str, str]]:
        judges = list(self.comparison.judges) or [""]
        return [(judge, name) for judge in judges for name in self.comparison.algorithms]

    def _seeds(self, count: int, first: int = 0) -> list[int]:
        return [self.base.seed + first + index for index in range(count)]

    def _cell(self, judge: str, name: str, changes: Changes, point: Changes, place: Path, seed: int) -> Cell:
        asked = {**(self.comparison.judges.get(judge) or {}), **changes, **point}
        config = self.config(asked, [f"seed={seed}", f"ledger={json.dumps(str(self.folder))}"])
        steps = self._steps(name, config)
        every = max(1, round(steps / self.comparison.evaluations))
        assert config.evaluation is not None
        evaluation = dataclasses.replace(config.evaluation, every_steps=every)
        config = dataclasses.replace(config, steps=steps, evaluation=evaluation)
        return Cell(judge=judge, name=name, point=point, config=config, place=Path(judge, place, f"seed-{seed}"))

    def _steps(self, name: str, config: RunConfig) -> int:
        """Return the number of steps that use the annotations. Raises SettingError if none does."""
        each, asked = asked_a_step(config), self.annotations
        if not each:
            return config.steps
        if asked < each or asked % each:
            near = max(1, round(asked / each)) * each
            raise SettingError(
                f"{self.where}: a step of {name} takes {each:,} annotations, of which {asked:,} are no multiple; set"
                f" compare.annotations to one, such as {near}, or give {name} another prompts_per_step or group_size"
            )
        return asked // each


def make_plan(text: str, comparison: Comparison, folder: Path, *, where: str) -> ExperimentPlan:
    """Return the plan. Raises SettingError if the runs cannot be compared."""
    base = parse_config(text, where=where)
    plan = ExperimentPlan(text=text, where=where, comparison=comparison, base=base, annotations=0, folder=folder)
    check(comparison, base, where, lambda name: plan.config(plan.algorithm(name)))
    return dataclasses.replace(plan, annotations=comparison.annotations or _annotations(plan))


def _evaluated_once(cell: Cell) -> Cell:
    assert cell.config.evaluation is not None
    evaluation = dataclasses.replace(cell.config.evaluation, every_steps=None)
    return dataclasses.replace(cell, config=dataclasses.replace(cell.config, evaluation=evaluation))


def _annotations(plan: ExperimentPlan) -> int:
    """Return the annotations of the first algorithm in the config's steps."""
    first = next(iter(plan.comparison.algorithms), None)
    config = plan.config(plan.algorithm(first)) if first else plan.base
    if not (each := asked_a_step(config)) and len(plan.comparison.algorithms) > 1:
        raise SettingError(
            f"{plan.where}: compare.annotations: missing, and {first}, the first algorithm, asks no judge; state it"
        )
    return each * config.steps
