"""What a run says of itself: rows for its logs, lines for the screen. Words only: never imports jax."""

from dar_jax.reporting.bill import evaluator_total, judge_metrics, judge_total, rest_by_first_answers, spent_metrics
from dar_jax.reporting.steps import (
    averaged,
    closing,
    completion_rows,
    samples,
    shown,
    speed,
    warnings,
)

__all__ = [
    "averaged",
    "closing",
    "completion_rows",
    "evaluator_total",
    "judge_metrics",
    "judge_total",
    "rest_by_first_answers",
    "samples",
    "shown",
    "speed",
    "spent_metrics",
    "warnings",
]
