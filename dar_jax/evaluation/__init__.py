"""What a run has reached, by the judge, on prompts it does not learn from."""

from dar_jax.evaluation.win_rate import Evaluation, WinRate, compare, wilson_interval

__all__ = ["Evaluation", "WinRate", "compare", "wilson_interval"]
