import json

import pytest

from dar_jax.config.config_file import parse_config
from dar_jax.planning.judge_demand import Assumptions, judge_costs

OPENAI = {"name": "openai", "model": "gpt-4o-mini", "concurrency": 32, "max_tokens": 16}


def config(judge, **settings):
    plain = {"policy": {"path": "p"}, "data": {"path": "d.jsonl"}, "judge": judge, **settings}
    return parse_config(json.dumps(plain), where="run.yaml")


def test_calls_tokens_and_dollars_are_those_of_the_longest_completions():
    run = config(OPENAI)
    found = judge_costs(run, Assumptions())
    rubric = sum(len(message.content) for message in run.judge.protocol.messages("", ""))
    assert found.calls == 512
    assert found.tokens_in == 512 * (512 + 512 + -(-rubric // 4))
    assert found.tokens_out == 512 * 16
    assert found.dollars == pytest.approx((found.tokens_in * 0.15 + found.tokens_out * 0.60) / 1e6)


@pytest.mark.parametrize(
    ("judge", "latency_s", "seconds"),
    [
        (OPENAI, 2.0, 512 / 32 * 2.0),
        (OPENAI, 0.5, 512 / 32 * 0.5),
        (OPENAI | {"requests_per_minute": 100}, 2.0, 512 / 100 * 60),
        ({"name": "scripted", "scorer": "overlap"}, 2.0, 0.0),
    ],
)
def test_the_slower_of_concurrency_and_rate_limit_counts(judge, latency_s, seconds):
    assert judge_costs(config(judge), Assumptions(judge_latency_s=latency_s)).seconds == pytest.approx(seconds)


def test_an_unknown_price_stays_unknown_and_a_rule_is_free():
    assert judge_costs(config(OPENAI | {"model": "of-my-own"}), Assumptions()).dollars is None
    assert judge_costs(config(OPENAI | {"base_url": "http://127.0.0.1:8000/v1"}), Assumptions()).dollars is None
    assert judge_costs(config({"name": "scripted", "scorer": "overlap"}), Assumptions()).dollars == 0


def test_samples_are_answers_of_one_call():
    one, many = (judge_costs(config(OPENAI | {"mode": mode}), Assumptions()) for mode in ("single", "samples"))
    assert (many.calls, many.tokens_out) == (one.calls, 8 * one.tokens_out)


def test_where_nobody_is_asked_nothing_is_paid():
    assert judge_costs(config(None, algorithm={"name": "sft"}), Assumptions()) is None


@pytest.mark.parametrize(
    ("settings", "group_size", "times"),
    [
        ({"reasoning": True}, 4, 2),
        ({"mode": "decision", "permutations": 3}, 4, 3),
        ({"criteria": [{"name": "a", "instructions": "x"}, {"name": "b", "instructions": "y"}]}, 4, 2),
        ({"labels": "preference"}, 2, 1),
        ({"labels": "preference"}, 4, 3),
        ({"labels": "preference", "orders": "one"}, 4, 1.5),
        ({"mode": "auto"}, 4, 1),
    ],
)
def test_every_call_of_a_judgement_counts(settings, group_size, times):
    run = config(OPENAI | settings, group_size=group_size)
    assert judge_costs(run, Assumptions()).calls == 128 * group_size * times


def test_a_panel_costs_what_its_judges_cost():
    other = {"name": "scripted", "scorer": "overlap"}
    one, both = (
        judge_costs(config(OPENAI), Assumptions()),
        judge_costs(config({"name": "panel", "judges": [OPENAI, other]}), Assumptions()),
    )
    assert (both.calls, both.dollars, both.seconds) == (2 * one.calls, one.dollars, one.seconds)
    unknown = config({"name": "panel", "judges": [OPENAI, OPENAI | {"model": "of-my-own"}]})
    assert judge_costs(unknown, Assumptions()).dollars is None
