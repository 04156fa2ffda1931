"""What a run says of itself: rows for its logs, lines for the screen. Words only: never imports jax."""

from dar_jax.reporting.steps import completion_rows, judge_metrics, samples, shown, warnings

__all__ = ["completion_rows", "judge_metrics", "samples", "shown", "warnings"]
