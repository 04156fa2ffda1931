"""What a run says of itself: rows for its logs, lines for the screen. Words only: never imports jax."""

from dar_jax.reporting.steps import (
    averaged,
    closing,
    completion_rows,
    judge_metrics,
    samples,
    shown,
    speed,
    spent_metrics,
    warnings,
)

__all__ = [
    "averaged",
    "closing",
    "completion_rows",
    "judge_metrics",
    "samples",
    "shown",
    "speed",
    "spent_metrics",
    "warnings",
]
