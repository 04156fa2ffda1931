"""Forecast the judge calls of a step, their time and their price from the settings."""

from dataclasses import dataclass

from dar_jax.config.run_config import RunConfig
from dar_jax.judging.money.forecast import Forecast


@dataclass(frozen=True, kw_only=True)
class Assumptions:
    """Assumptions of a plan that no compiler knows.

    `judge_latency_s` is the time of one judge call. `characters_per_token` converts the rubric to tokens. Prompts and
    completions are assumed to have their maximum lengths and answers `judge.max_tokens`; nothing comes from a cache.
    So calls are an upper bound, and tokens and dollars an estimate. `roofline_share` is the fraction of the roofline
    that programs reach.
    """

    judge_latency_s: float = 2.0
    characters_per_token: float = 4.0
    roofline_share: float = 0.5


def judge_costs(config: RunConfig, assumptions: Assumptions, judged: int | None = None) -> Forecast | None:
    """Return the forecast of one step, or of `judged` completions; None if the run has no judge."""
    return config.forecast(
        config.rows_per_step if judged is None else judged,
        latency_s=assumptions.judge_latency_s,
        characters_per_token=assumptions.characters_per_token,
    )
