from dataclasses import replace

import pytest

from dar_jax.judging.ledger import readers
from dar_jax.judging.ledger.ledger_sums import label, statistics
from dar_jax.judging.money.prices import list_price
from dar_jax.records import Usage
from tests.judging.ledger.test_ledger import ANSWER as SAID
from tests.judging.ledger.test_ledger import put, question

GPT = {"wire": "openai", "model": "gpt-4o-mini", "endpoint": "https://api.openai.com/v1", "rubric": "a b c d e f g h i"}
OTHER = GPT | {"endpoint": "http://127.0.0.1:1/v1"}


def answered(path, text, judge, **changes):
    put(path, question(text, **judge), replace(SAID, **changes))


@pytest.fixture
def found(tmp_path):
    path = tmp_path / "ledger.sqlite"
    answered(path, "a", GPT, served_model="gpt-1", usage=Usage(input_tokens=1000, cached_tokens=200, output_tokens=10))
    answered(path, "b", GPT, served_model="gpt-1", usage=Usage(input_tokens=500, output_tokens=1))
    answered(path, "c", GPT, served_model="gpt-2", usage=None)
    answered(path, "d", OTHER, served_model="gpt-1")
    return statistics(readers.LedgerFile(path).rows())


def test_sums_by_judge_and_served_model(found):
    one, two, other = found.served.values()
    assert (one.answers, one.attempts, one.input_tokens, one.cached_tokens, one.output_tokens) == (2, 2, 1500, 200, 11)
    usage = Usage(input_tokens=1500, cached_tokens=200, output_tokens=11)
    assert one.cost_usd == pytest.approx(list_price("gpt-4o-mini").cost_usd(usage))
    assert one.first < one.last
    assert (two.answers, two.without_usage, two.cost_usd) == (1, 1, None)
    assert (other.answers, other.cost_usd) == (1, None)


def test_an_unknown_cost_is_never_zero_in_the_total(found):
    assert (found.total.answers, found.total.input_tokens, found.total.cost_usd) == (4, 1505, None)


def test_json_holds_all(found):
    plain = found.to_plain()
    assert [len(judge["served_models"]) for judge in plain["judges"]] == [2, 1]
    assert plain["judges"][0]["description"]["endpoint"] == "https://api.openai.com/v1"
    assert plain["judges"][0]["served_models"][1]["cost_usd"] is None
    assert plain["total"]["first"].endswith("+00:00")


def test_a_judge_has_a_label():
    assert label("0123456789", GPT) == 'gpt-4o-mini at https://api.openai.com/v1, "a b c d e f g h ..." (01234567)'
    told = label("0123456789", {"model": "m", "channel": "decision", "labels": "preference", "rubric": "a b"})
    assert told == 'm, decision, preference, "a b" (01234567)'
    assert label("0123456789", {}) == "unknown judge (01234567)"


def test_nothing_is_zero():
    assert statistics([]).to_plain()["total"] | {"first": 0, "last": 0} == {
        "answers": 0,
        "usable": 0,
        "usd_per_usable": None,
        "attempts": 0,
        "without_usage": 0,
        "input_tokens": 0,
        "cached_tokens": 0,
        "output_tokens": 0,
        "cost_usd": 0.0,
        "first": 0,
        "last": 0,
    }
