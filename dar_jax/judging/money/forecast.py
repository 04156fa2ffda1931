"""About what judging takes and costs, before it begins: calls, tokens, seconds and US dollars."""

import math
from dataclasses import dataclass, replace

from dar_jax.judging.money.prices import amount, dollars
from dar_jax.judging.money.spent import Spent, size
from dar_jax.judging.questions.calls import requests_each
from dar_jax.judging.section import Settings, members
from dar_jax.judging.terms import Judging
from dar_jax.records import Usage


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """An estimate. `calls` is an upper bound: nothing is taken as seen before or decided by rule. Tokens are by the
    size of the texts (four bytes each; digits and other scripts take more) and by `max_tokens`, none of them cached.
    `dollars` None: a price is unknown.
    """

    calls: int
    tokens_in: int
    tokens_out: int
    seconds: float
    dollars: float | None

    def describe(self) -> str:
        """Return it as text."""
        return (
            f"{self.calls:,} questions, {self.tokens_in:,} tokens in and {self.tokens_out:,} out,"
            f" {dollars(self.dollars)}, {_time(self.seconds)}"
        )

    def corrected(self, spent: Spent, usd: float | None) -> "Forecast":
        """Return it with the tokens and dollars a question that answers so far took (`usd`: their cost)."""
        if not spent.annotations:
            return self
        times = self.calls / spent.annotations
        return replace(
            self,
            tokens_in=math.ceil(times * spent.usage.input_tokens),
            tokens_out=math.ceil(times * spent.usage.output_tokens),
            dollars=None if usd is None else times * usd,
        )


def forecast(
    judge: Settings,
    judged: int,
    *,
    prompt_tokens: float,
    completion_tokens: float,
    group_size: int = 1,
    latency_s: float = 2.0,
    characters_per_token: float = 4.0,
) -> Forecast:
    """Estimate what judging `judged` completions takes, from the tokens of a prompt and a completion; the questions'
    own words are counted by their characters. A call takes `latency_s` seconds, one of a rule in this process none.
    """
    costs = [
        _of_one(each, judged, group_size, prompt_tokens, completion_tokens, latency_s, characters_per_token)
        for each in members(judge)
    ]
    known = [each.dollars for each in costs if each.dollars is not None]
    return Forecast(
        calls=sum(each.calls for each in costs),
        tokens_in=sum(each.tokens_in for each in costs),
        tokens_out=sum(each.tokens_out for each in costs),
        # A panel's judges are asked side by side.
        seconds=max(each.seconds for each in costs),
        dollars=sum(known) if len(known) == len(costs) else None,
    )


def shortage(settings: Settings, spent: Spent, step: Forecast, usd: float | None) -> str | None:
    """Return which budget has no room for what a step may take, beside what is `spent` (`usd`: in US dollars)."""
    annotations, limit = settings.budget_annotations, settings.budget_usd
    if annotations is not None and spent.annotations + step.calls > annotations:
        need, left, name = f"{step.calls:,} answers", f"{max(0, annotations - spent.annotations):,}", "annotations"
    elif limit is not None and step.dollars is not None and usd is not None and usd + step.dollars > limit:
        need, left, name = dollars(step.dollars), amount(max(0.0, limit - usd)), "usd"
    else:
        return None
    return (
        f"judge.budget_{name} has {left} left, and one step takes about {need}: the run may stop within its first step"
    )


def _of_one(
    judge: Judging,
    judged: int,
    group_size: int,
    prompt_tokens: float,
    completion_tokens: float,
    latency_s: float,
    characters_per_token: float,
) -> Forecast:
    per_completion = requests_each(judge, group_size)
    # Two completions are shown where they are compared.
    shown = prompt_tokens + (1 + (judge.labels == "preference")) * completion_tokens
    usage = [
        Usage(
            input_tokens=math.ceil(size(request) / characters_per_token + shown),
            output_tokens=request.max_tokens * request.n,
        )
        for request in per_completion.requests
    ]
    times = judged * per_completion.times
    costs = [judge.price.cost_usd(used) for used in usage] if judge.price else [None]
    known = [cost for cost in costs if cost is not None]
    calls = math.ceil(times * len(usage))
    tokens_in, tokens_out = (
        math.ceil(times * sum(each)) for each in zip(*((u.input_tokens, u.output_tokens) for u in usage), strict=True)
    )
    waits_s = 0.0 if getattr(judge, "name", "") == "scripted" else latency_s
    return Forecast(
        calls=calls,
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        seconds=max(
            math.ceil(calls / judge.concurrency) * waits_s,
            _limited_s(calls, judge.requests_per_minute),
            _limited_s(tokens_in + tokens_out, judge.tokens_per_minute),
        ),
        dollars=times * sum(known) if len(known) == len(costs) else None,
    )


def _limited_s(amount: int, per_minute: float | None) -> float:
    return 60.0 * amount / per_minute if per_minute else 0.0


def _time(seconds: float) -> str:
    return (
        f"{seconds:,.0f} s"
        if seconds < 120
        else f"{seconds / 60:,.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:,.1f} h"
    )
