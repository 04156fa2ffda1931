"""Logs and console output of a run, written by host 0."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from dar_jax import hosts
from dar_jax.config.run_config import RunConfig
from dar_jax.evaluation import Evaluation
from dar_jax.judging import canary_alarm
from dar_jax.records import Completion, Verdict
from dar_jax.reporting import (
    averaged,
    closing,
    completion_rows,
    evaluator_total,
    judge_total,
    rest_by_first_answers,
    samples,
    shown,
    speed,
    warnings,
)
from dar_jax.run.opening import Folder
from dar_jax.run.progress import RunProgress
from dar_jax.run.shared_judge import SharedJudge
from dar_jax.run.timeline import Timeline
from dar_jax.terminal.console import Console

_EVERY_STEPS = 10
_NUMBER = re.compile(r"-?\d+(\.\d+)?")


class Reporter:
    """Write a run's logs and print its lines."""

    def __init__(self, config: RunConfig, folder: Folder, console: Console) -> None:
        self.config, self.folder, self.console = config, folder, console
        self._estimated, self._recurring = False, RecurringWarnings()

    def step(self, progress: RunProgress, timeline: Timeline, judge: SharedJudge | None) -> dict[str, Any]:
        """Log the current step and print its line; return its metrics."""
        measured, seconds = progress.measured, timeline.seconds()
        metrics = {**measured, **averaged(progress.updates), **speed(seconds, measured, self.config.rows_per_step)}
        step = progress.step + 1
        self._write("metrics", [{"step": step, **metrics}])
        self._write("timeline", timeline.rows(step))
        self.console.step(step, self.config.steps, shown(metrics), metrics)
        found = warnings(metrics, judge.modes if judge else ())
        alarm = canary_alarm(metrics, self.config.judge) if self.config.judge else []
        for warning in self._recurring.due(step, [*found, *alarm, *(judge.notices() if judge else [])]):
            self.console.warn(f"step {step}: {warning}")
        self._estimate_rest(metrics, self.config.steps - step)
        return metrics

    def _estimate_rest(self, metrics: dict[str, Any], steps: int) -> None:
        """Correct the cost estimate once, from the first billed answers."""
        forecast = None if self._estimated else self.config.forecast(self.config.rows_per_step * steps)
        if forecast and (line := rest_by_first_answers(metrics, forecast.calls, steps)):
            self._estimated = True
            self.console.note(line)

    def completions(
        self, step: int, own: dict[int, Completion], verdicts: Sequence[Verdict], columns: dict[str, np.ndarray]
    ) -> None:
        """Log the completions of all hosts (`own` are this host's, by global row), and print some now and then."""
        display, rows = self.config.display, list(own)
        of_rows = {name: column.reshape(-1)[rows] for name, column in columns.items()}
        made = completion_rows(step, list(own.values()), [verdicts[row] for row in rows], of_rows, self.config.judge)
        logged = hosts.union_at_first("completions", dict(zip(rows, made, strict=True)), dict[str, Any])
        self._write("completions", logged)
        if display.samples_every and (step == 1 or step % display.samples_every == 0):
            self.console.samples(f"samples of step {step}", samples(logged, display.samples))

    def evaluation(self, step: int, outcome: Evaluation) -> None:
        """Log a held-out evaluation and print its line."""
        self._write("evaluations", [{"step": step, **outcome.metrics()}])
        self.console.note(outcome.describe(), step=step, **outcome.metrics())

    def closing(self, judge: SharedJudge | None, evaluator: SharedJudge | None) -> None:
        """Print the result of the run and the cost of its judges across hosts."""
        spent = judge.check_spend([]) if judge else None
        apart = evaluator.check_spend([]) if evaluator and not (judge and evaluator.judge is judge.judge) else None
        if hosts.is_first():
            rows, shared = self.folder.read("metrics"), self.config.ledger is not None
            totals = [judge_total(rows, spent, shared=shared)] if spent else []
            totals += [evaluator_total(apart)] if apart else []
            for line in closing(str(self.folder.path), self.folder.contents(), rows, totals):
                self.console.note(line)

    def _write(self, log: str, rows: list[dict[str, Any]]) -> None:
        if hosts.is_first():
            self.folder.write(log, rows)


class RecurringWarnings:
    """Pass a warning at its first step, and again at the earliest ten steps after it was last shown.

    Warnings that differ only in their numbers are the same.
    """

    def __init__(self) -> None:
        self._shown: dict[str, int] = {}

    def due(self, step: int, warnings: Iterable[str]) -> list[str]:
        """Return the warnings of a step that should be shown."""
        due = []
        for warning in warnings:
            kind = _NUMBER.sub("#", warning)
            if kind not in self._shown or step >= self._shown[kind] + _EVERY_STEPS:
                self._shown[kind] = step
                due.append(warning)
        return due
