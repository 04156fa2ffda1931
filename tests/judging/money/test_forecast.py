"""What judging will take, said before it begins."""

import pytest

from dar_jax.judging import OpenAIJudge, PanelJudge, ScriptedJudge
from dar_jax.judging.money.forecast import Forecast, forecast, shortage
from dar_jax.judging.money.prices import Price
from dar_jax.judging.money.spent import Spent
from dar_jax.records import Usage

PRICE = Price(input=1.0, output=2.0, date="2026-11-01")
STEP = Forecast(calls=100, tokens_in=1000, tokens_out=100, seconds=1.0, dollars=0.5)


def _judge(**settings):
    return OpenAIJudge(model="m", **settings)


def _forecast(judge, judged=1000):
    return forecast(judge, judged, prompt_tokens=100, completion_tokens=50)


def test_tokens_grow_with_what_is_shown_and_dollars_with_the_tokens():
    judge = _judge(prices=PRICE)
    found, more = _forecast(judge), forecast(judge, 1000, prompt_tokens=110, completion_tokens=50)
    assert (found.calls, found.tokens_out) == (1000, 16_000)
    assert more.tokens_in - found.tokens_in == 10_000
    assert found.dollars == pytest.approx((found.tokens_in * 1.0 + found.tokens_out * 2.0) / 1e6)


def test_the_tightest_limit_decides_the_time():
    assert _forecast(_judge(concurrency=100)).seconds == 20.0
    assert _forecast(_judge(concurrency=100, requests_per_minute=100)).seconds == 600.0
    slow = _judge(concurrency=100, tokens_per_minute=1000)
    assert _forecast(slow).seconds == pytest.approx(60 * (_forecast(slow).tokens_in + 16_000) / 1000)
    assert _forecast(ScriptedJudge()).seconds == 0.0


def test_a_panel_adds_up_and_waits_for_its_slowest():
    one, other = _judge(prices=PRICE), _judge(prices=PRICE, concurrency=8, rubric="tldr")
    found, parts = _forecast(PanelJudge(judges=(one, other))), [_forecast(one), _forecast(other)]
    assert found.dollars == pytest.approx(sum(each.dollars for each in parts))
    assert found.seconds == max(each.seconds for each in parts)
    assert _forecast(PanelJudge(judges=(one, _judge()))).dollars is None


def test_it_learns_from_the_answers_so_far():
    """A token per four bytes is far off for digits: 581 estimated, 1,505 counted."""
    spent = Spent(annotations=20, usage=Usage(input_tokens=20 * 1505, output_tokens=20))
    found = STEP.corrected(spent, 0.02)
    assert (found.calls, found.tokens_in, found.tokens_out, found.dollars) == (100, 150_500, 100, pytest.approx(0.1))
    assert STEP.corrected(spent, None).dollars is None
    assert STEP.corrected(Spent(), 0.0) == STEP


def test_a_small_amount_is_no_zero():
    assert (
        Forecast(calls=1, tokens_in=1, tokens_out=1, seconds=1.0, dollars=0.00002341)
        .describe()
        .endswith("0.00002341 US dollars, 1 s")
    )


def test_it_is_said_in_a_line():
    assert STEP.describe() == "100 questions, 1,000 tokens in and 100 out, 0.5000 US dollars, 1 s"
    unknown = Forecast(calls=1, tokens_in=1, tokens_out=1, seconds=9000.0, dollars=None)
    assert unknown.describe().endswith("cost unknown, 2.5 h")


@pytest.mark.parametrize(
    ("settings", "spent", "usd", "told"),
    [
        (
            {"budget_annotations": 150},
            60,
            None,
            "judge.budget_annotations has 90 left, and one step takes about 100 answers",
        ),
        ({"budget_annotations": 150}, 50, None, None),
        ({"budget_usd": 1.0, "prices": PRICE}, 0, 0.6, "judge.budget_usd has 0.4000 left"),
        ({"budget_usd": 1.0, "prices": PRICE}, 0, 0.5, None),
        ({}, 10**9, 10.0**9, None),
    ],
)
def test_a_budget_without_room_for_a_step_is_told(settings, spent, usd, told):
    found = shortage(_judge(**settings), Spent(annotations=spent), STEP, usd)
    assert found is None if told is None else told in found
