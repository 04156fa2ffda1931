"""What a step's judge calls take and cost, by the settings alone; every assumption is a field of `Assumptions`."""

import math
from dataclasses import dataclass

from dar_jax.config import RunConfig
from dar_jax.judging.questions import requests_each
from dar_jax.judging.section import members
from dar_jax.judging.spent import size
from dar_jax.judging.terms import Judging
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
    judged = config.rows_per_step if calls is None else calls
    costs = [_of_one(member, config, assumptions, judged) for member in members(judge)]
    dollars = [each.dollars for each in costs if each.dollars is not None]
    return JudgeCosts(
        calls=sum(each.calls for each in costs),
        tokens_in=sum(each.tokens_in for each in costs),
        tokens_out=sum(each.tokens_out for each in costs),
        # A panel's judges are asked side by side.
        seconds=max(each.seconds for each in costs),
        dollars=sum(dollars) if len(dollars) == len(costs) else None,
    )


def _of_one(judge: Judging, config: RunConfig, assumptions: Assumptions, judged: int) -> JudgeCosts:
    """Work out one judge of a panel, or the only one, for so many completions judged."""
    sampling, per_completion = config.sampling, requests_each(judge, config.group_size)
    # Two completions are shown where they are compared.
    shown = 1 + (judge.labels == "preference")
    sampled = sampling.max_prompt_length + shown * sampling.max_completion_length
    usage = [
        Usage(
            input_tokens=math.ceil(size(request) / assumptions.characters_per_token) + sampled,
            output_tokens=request.max_tokens * request.n,
        )
        for request in per_completion.requests
    ]
    times = judged * per_completion.times
    costs = [judge.price.cost_usd(used) for used in usage] if judge.price else [None]
    known = [cost for cost in costs if cost is not None]
    calls = math.ceil(times * len(usage))
    latency_s = 0.0 if getattr(judge, "name", "") == "scripted" else assumptions.judge_latency_s
    rounds_s = math.ceil(calls / judge.concurrency) * latency_s
    limited_s = calls * 60 / judge.requests_per_minute if judge.requests_per_minute else 0.0
    return JudgeCosts(
        calls=calls,
        tokens_in=math.ceil(times * sum(used.input_tokens for used in usage)),
        tokens_out=math.ceil(times * sum(used.output_tokens for used in usage)),
        seconds=max(rounds_s, limited_s),
        dollars=times * sum(known) if len(known) == len(costs) else None,
    )
