"""Summarize a comparison: a row for each algorithm under each judge, or for each point of a sweep."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dar_jax.experiments.cells import Cell
from dar_jax.experiments.grid import Changes, written
from dar_jax.experiments.intervals import Estimate, over_seeds, ratio_to_level, to_level
from dar_jax.experiments.measuring import FIGURES, SHARES, Measured, measured
from dar_jax.experiments.running import is_finished


@dataclass(frozen=True, kw_only=True)
class Group:
    """The finished runs of one algorithm under one judge, or of one point of a sweep; `planned` is how many to be."""

    judge: str
    name: str
    point: Changes
    planned: int
    asked_a_step: int
    runs: tuple[Measured, ...]

    @property
    def mean_N(self) -> np.ndarray:
        """The mean held-out reward at each evaluation."""
        return self.held_out_SN.mean(0)

    @property
    def held_out_SN(self) -> np.ndarray:
        """The held-out rewards, a row a run."""
        return np.array([run.held_out_N for run in self.runs])

    @property
    def annotations_N(self) -> np.ndarray:
        """How many annotations were asked for before each evaluation: the same in all runs."""
        return self.runs[0].annotations_N


def groups(cells: Sequence[Cell], folder: Path) -> list[Group]:
    """Read the finished runs, by judge and name, in the order of the plan."""
    found = []
    for (judge, name), same in itertools.groupby(cells, lambda cell: (cell.judge, cell.name)):
        all_ = list(same)
        runs = tuple(measured(cell, folder) for cell in all_ if is_finished(cell, folder))
        first = all_[0]
        found.append(
            Group(
                judge=judge,
                name=name,
                point=first.point,
                planned=len(all_),
                asked_a_step=first.asked_a_step,
                runs=runs,
            )
        )
    return found


def best_points(cells: Sequence[Cell], folder: Path) -> dict[tuple[str, str], Changes]:
    """Choose for each judge and name the point with the highest held-out reward in the mean of its tuning runs, of two
    alike the first; none where one of the runs is unfinished.
    """
    best: dict[tuple[str, str], Changes] = {}
    for key, same in itertools.groupby(cells, lambda cell: (cell.judge, cell.name)):
        all_ = list(same)
        if not all(is_finished(cell, folder) for cell in all_):
            continue
        rewards: dict[str, list[float]] = {}
        points = {str(cell.point): cell.point for cell in all_}
        for cell in all_:
            rewards.setdefault(str(cell.point), []).append(measured(cell, folder).figures["held_out"])
        best[key] = points[max(rewards, key=lambda point: float(np.nan_to_num(np.mean(rewards[point]), nan=-np.inf)))]
    return best


def summary(found: Sequence[Group], level: float | None) -> list[dict[str, Any]]:
    """Make the rows, those of each judge with their level: the one given, or the highest that all of them reach in the
    mean over their seeds.
    """
    rows = []
    for _, same in itertools.groupby(found, lambda group: group.judge):
        first, *others = same
        run = [group for group in (first, *others) if group.runs]
        reached = min((float(np.nanmax(group.mean_N)) for group in run if group.asked_a_step), default=np.nan)
        rows += [_row(group, first, reached if level is None else level) for group in run]
    return rows


def _row(group: Group, first: Group, level: float) -> dict[str, Any]:
    return {
        "judge": group.judge,
        "name": group.name,
        "point": dict(group.point),
        "tuned": written(group.point) if group.name != written(group.point) else "",
        "runs": len(group.runs),
        "planned": group.planned,
        "seeds": [run.seed for run in group.runs],
        "annotations": int(group.annotations_N[-1]),
        **{name: asdict(_figure(name, group)) for name in FIGURES},
        "level": level,
        "to_level": asdict(_to_level(group, level)),
        "ratio": asdict(_ratio(group, first, level)),
        "curve": _curve(group),
    }


def _figure(name: str, group: Group) -> Estimate:
    return over_seeds([run.figures[name] for run in group.runs], share=name in SHARES)


_UNKNOWN = Estimate(value=np.nan, low=np.nan, high=np.nan)


def _to_level(group: Group, level: float) -> Estimate:
    return to_level(level, group.annotations_N, group.held_out_SN) if group.asked_a_step else _UNKNOWN


def _ratio(group: Group, first: Group, level: float) -> Estimate:
    """Compare with the first algorithm over the seeds that both have."""
    seeds = {run.seed for run in group.runs} & {run.seed for run in first.runs}
    if not (seeds and group.asked_a_step and first.asked_a_step):
        return _UNKNOWN
    own_SN, first_SN = (np.array([run.held_out_N for run in each.runs if run.seed in seeds]) for each in (group, first))
    return ratio_to_level(level, group.annotations_N, own_SN, first.annotations_N, first_SN)


def _curve(group: Group) -> list[Mapping[str, Any]]:
    """List the evaluations: annotations asked for before each, mean and interval of both figures."""
    held_out_NS = group.held_out_SN.T
    win_rate_NS = np.array([run.win_rate_N for run in group.runs]).T
    return [
        {
            "annotations": int(asked),
            "held_out": asdict(over_seeds(rewards)),
            "win_rate": asdict(over_seeds(wins, share=True)),
        }
        for asked, rewards, wins in zip(group.annotations_N, held_out_NS, win_rate_NS, strict=True)
    ]
