"""The result of a run, read from its folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dar_jax.experiments.cells import Cell
from dar_jax.runlog import RunFolder

# What is read off the last evaluation, and off the steps since the one before it, in the units of the logs.
LAST = {"held_out": "eval/reward", "win_rate": "eval/win_rate", "length": "eval/mean_length"}
RECENT = {"training": "rewards/mean", "kl": "objective/kl", "missing_eos": "completions/clipped_ratio"}
SUMS = {"billed": "judge/billed_calls", "dollars": "judge/cost_usd", "seconds": "seconds/step"}
SHARES = ("win_rate", "missing_eos")
FIGURES = (*LAST, *RECENT, *SUMS, "usd_per_reward")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The figures of one run, NaN where its logs have none; its evaluations as curves over the annotations asked for,
    from the start on, and the two sides of the last one.
    """

    seed: int
    figures: Mapping[str, float]
    annotations_N: np.ndarray
    held_out_N: np.ndarray
    win_rate_N: np.ndarray


def measured(cell: Cell, folder: Path) -> Measured:
    """Return the result of a finished run from its logs."""
    run = RunFolder(folder / cell.place)
    steps, evaluations = run.read("metrics"), run.read("evaluations")
    before = evaluations[-2]["step"] if len(evaluations) > 1 else 0
    recent = [row for row in steps if row["step"] > before]
    start = evaluations[0]["eval/start_reward"]
    return Measured(
        seed=cell.seed,
        figures={
            **{name: _number(evaluations[-1].get(key)) for name, key in LAST.items()},
            **{name: float(np.mean(_column(recent, key))) for name, key in RECENT.items()},
            **{name: float(np.sum(_column(steps, key))) for name, key in SUMS.items()},
            "usd_per_reward": _ratio(steps, "judge/cost_usd", "judge/ok"),
        },
        annotations_N=np.array([0, *(row["step"] for row in evaluations)]) * cell.asked_a_step,
        held_out_N=np.array([_number(start), *_column(evaluations, "eval/reward")]),
        win_rate_N=np.array([0.5, *_column(evaluations, "eval/win_rate")]),
    )


def _column(rows: Sequence[Mapping[str, Any]], key: str) -> np.ndarray:
    return np.array([_number(row.get(key)) for row in rows])


def _ratio(rows: Sequence[Mapping[str, Any]], key: str, by: str) -> float:
    divisor = float(np.sum(_column(rows, by)))
    return float(np.sum(_column(rows, key))) / divisor if divisor else np.nan


def _number(value: float | None) -> float:
    return np.nan if value is None else float(value)
