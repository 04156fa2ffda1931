"""Evaluation: win rates on held-out prompts, and the agreement of judges with people."""

from dar_jax.evaluation.win_rate import Evaluation, WinRate, compare, wilson_interval

__all__ = ["Evaluation", "WinRate", "compare", "wilson_interval"]
