import pytest

from dar_jax.judging import OpenAIJudge
from dar_jax.judging.money.prices import PRICES, Price, list_price
from dar_jax.records import Usage
from dar_jax.relabeling.batch_jobs import batch_price

PRICE = Price(input=1.0, cached=0.1, output=10.0, date="2026-11")


def test_cached_tokens_are_part_of_the_input():
    assert PRICE.cost_usd(Usage(input_tokens=1000, cached_tokens=400, output_tokens=10)) == pytest.approx(740e-6)


def test_unknown_is_unknown():
    """open-instruct priced an unknown model at $0."""
    assert PRICE.cost_usd(None) is None
    assert list_price("my-own-model") is None
    no_cached = Price(input=1.0, output=1.0, date="2026-11")
    assert no_cached.cost_usd(Usage(input_tokens=10, cached_tokens=5)) is None
    assert no_cached.cost_usd(Usage(input_tokens=10)) == pytest.approx(10e-6)


def test_dated_names_have_their_models_price():
    assert list_price("gpt-4.1-mini-2025-04-14") == PRICES["gpt-4.1-mini"]
    assert list_price("gemini-2.5-flash-001") == PRICES["gemini-2.5-flash"]
    assert list_price("gpt-4.1-mini-preview") is None


def test_a_batch_costs_half_of_the_list_price_and_what_is_stated_where_that_is():
    listed = list_price("gpt-4o-mini")
    half = batch_price(OpenAIJudge(model="gpt-4o-mini"))
    used = Usage(input_tokens=3_000_000, cached_tokens=1_000_000, output_tokens=100_000)
    assert half.cost_usd(used) == pytest.approx(listed.cost_usd(used) / 2)
    stated = Price(input=0.4, output=0.8, date="2026-11")
    assert batch_price(OpenAIJudge(model="gpt-4o-mini", prices=stated)) == stated
    assert stated.times(0.5) == Price(input=0.2, output=0.4, date="2026-11")
    assert batch_price(OpenAIJudge(model="of-my-own")) is None


def test_dollars_are_never_negative():
    """More cached tokens than input: the server left them out of the input."""
    usage = Usage(input_tokens=20, cached_tokens=480, output_tokens=1)
    assert PRICE.cost_usd(usage) == PRICE.at_most_usd(usage) == pytest.approx((20 + 48 + 10) * 1e-6)
