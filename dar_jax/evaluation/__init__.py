"""What a run has reached, by the judge, on prompts it does not learn from."""

from dar_jax.evaluation.win_rate import Outcome, WinRate, compare, wilson_interval

__all__ = ["Outcome", "WinRate", "compare", "wilson_interval"]
