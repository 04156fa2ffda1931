"""What a run says of itself: rows for its logs, lines for the screen. Words only: never imports jax."""

from dar_jax.reporting.steps import closing, completion_rows, judge_metrics, samples, shown, warnings

__all__ = ["closing", "completion_rows", "judge_metrics", "samples", "shown", "warnings"]
