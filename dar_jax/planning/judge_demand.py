"""What a step's judge calls take and cost, by the settings alone; every assumption is a field of `Assumptions`."""

from dataclasses import dataclass

from dar_jax.config.run_config import RunConfig
from dar_jax.judging.money.forecast import Forecast


@dataclass(frozen=True, kw_only=True)
class Assumptions:
    """What a compiler cannot know.

    `judge_latency_s` is how long one call takes. `characters_per_token` turns the rubric into tokens; prompts and
    completions are taken at the greatest lengths allowed, answers at `judge.max_tokens`, and nothing as cached or seen
    before: calls are an upper bound, tokens and dollars an estimate. `roofline_share` is how much of the
    bound a program reaches.
    """

    judge_latency_s: float = 2.0
    characters_per_token: float = 4.0
    roofline_share: float = 0.5


def judge_costs(config: RunConfig, assumptions: Assumptions, judged: int | None = None) -> Forecast | None:
    """Work out one step, or so many completions judged; None where no judge is asked."""
    return config.forecast(
        config.rows_per_step if judged is None else judged,
        latency_s=assumptions.judge_latency_s,
        characters_per_token=assumptions.characters_per_token,
    )
