"""What a step's judge calls take and cost, by the settings alone; every assumption is a field of `Assumptions`."""

import math
from dataclasses import dataclass

from dar_jax.config import RunConfig
from dar_jax.records import Usage


@dataclass(frozen=True, kw_only=True)
class Assumptions:
    """What a compiler cannot know.

    `judge_latency_s` is how long one call takes. `characters_per_token` turns the rubric into tokens; prompts and
    completions are taken at the greatest lengths allowed, answers at `judge.max_tokens`, and nothing as cached or seen
    before: calls and dollars are upper bounds. `roofline_share` is how much of the bound a program reaches.
    """

    judge_latency_s: float = 2.0
    characters_per_token: float = 4.0
    roofline_share: float = 0.5


@dataclass(frozen=True, kw_only=True)
class JudgeCosts:
    """A step's judging; `dollars` None: a price is unknown."""

    calls: int
    tokens_in: int
    tokens_out: int
    seconds: float
    dollars: float | None


def judge_costs(config: RunConfig, assumptions: Assumptions, calls: int | None = None) -> JudgeCosts | None:
    """Work out one step, or so many calls; None where no judge is asked."""
    judge = config.judge
    if judge is None or not config.online:
        return None
    calls = config.rows_per_step if calls is None else calls
    written = sum(len(message.content) for message in judge.protocol.messages("", ""))
    sampled = config.sampling.max_prompt_length + config.sampling.max_completion_length
    usage = Usage(
        input_tokens=math.ceil(written / assumptions.characters_per_token) + sampled,
        output_tokens=judge.max_tokens * judge.answers,
    )
    price = judge.price
    each = price.cost_usd(usage) if price else None
    latency_s = 0.0 if judge.name == "scripted" else assumptions.judge_latency_s
    rounds_s = math.ceil(calls / judge.concurrency) * latency_s
    limited_s = calls * 60 / judge.requests_per_minute if judge.requests_per_minute else 0.0
    return JudgeCosts(
        calls=calls,
        tokens_in=calls * usage.input_tokens,
        tokens_out=calls * usage.output_tokens,
        seconds=max(rounds_s, limited_s),
        dollars=None if each is None else calls * each,
    )
