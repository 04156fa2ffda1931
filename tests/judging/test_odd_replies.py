"""What odd replies of real servers come to: each is paid for once, never bought again, and no wrong number."""

import pytest

from dar_jax.chat.reply import CACHED_APART
from dar_jax.chat.scripted.server import ServerSettings, serve
from dar_jax.judging.money.prices import Price
from tests.judging.sample_questions import Echo, completions, planted
from tests.wires import WIRES, judge_settings

PRICE = Price(input=1.0, cached=0.1, output=10.0, date="2026-11")
LEVEL = 4.25
UNKNOWN_USAGE = ["usage_null", "usage_empty", "usage_total_only", "usage_negative", "usage_huge"]


def judged(wire, fault, tmp_path, **settings):
    """Judge a completion twice by a server with one fault; return its verdict, the totals and the remarks."""
    with serve(ServerSettings(port=0, faults={fault: 1.0}), Echo().model) as server:
        judge, found = judge_settings(wire, server, attempts=3, prices=PRICE, **settings), []
        for _ in range(2):
            with judge.open(tmp_path / "ledger.sqlite") as opened:
                found += opened.submit(completions([planted(LEVEL)])).result()
                found.append((opened.totals, opened.spent_before + opened.spent, opened.notices()))
        first, (totals, spent, remarks), again, (_, spent_again, _) = found
    assert server.asked.total() == 1, "a paid answer is not bought again"
    assert (again.status, again.reward, again.from_ledger) == (first.status, first.reward, True)
    assert spent_again == spent, "what is filed is what was counted"
    assert totals.annotations == spent.annotations == 1
    return first, totals, remarks


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("fault", ["reasoning_logprobs", "text_other_than_token", "overfull_logprobs"])
def test_no_reward_comes_from_the_wrong_token(wire, fault, tmp_path):
    verdict, _, _ = judged(wire, fault, tmp_path)
    if fault == "reasoning_logprobs":
        assert verdict.reward == pytest.approx(LEVEL)
    else:
        assert (verdict.status, verdict.reward) == ("unparsable", None)
        told = "log-probabilities of other tokens than the reply's" if fault.startswith("text") else "no distribution"
        assert told in verdict.reason


@pytest.mark.parametrize("fault", UNKNOWN_USAGE)
def test_usage_that_cannot_be_true_is_estimated_and_said_to_be(fault, tmp_path):
    verdict, totals, _ = judged("openai", fault, tmp_path)
    assert verdict.reward == pytest.approx(LEVEL)
    assert (verdict.estimated, totals.estimated) == (1, 1)
    assert verdict.usage.input_tokens > 100
    assert verdict.usage.output_tokens == 16
    assert verdict.cost_usd == totals.cost_usd == PRICE.cost_usd(verdict.usage) > 0


@pytest.mark.parametrize("wire", WIRES[1:])
@pytest.mark.parametrize("fault", ["usage_null", "usage_huge"])
def test_geminis_usage_that_cannot_be_true_is_estimated(wire, fault, tmp_path):
    verdict, _, _ = judged(wire, fault, tmp_path)
    assert (verdict.estimated, verdict.cost_usd) == (1, PRICE.cost_usd(verdict.usage))
    assert verdict.reward == pytest.approx(LEVEL)


@pytest.mark.parametrize("wire", WIRES)
def test_cached_tokens_beside_the_input_cost_no_negative_dollars(wire, tmp_path):
    verdict, totals, remarks = judged(wire, "usage_cached_beside", tmp_path)
    assert verdict.usage.input_tokens > verdict.usage.cached_tokens > 1000
    assert totals.cost_usd > 0
    assert remarks == [CACHED_APART]


@pytest.mark.parametrize("wire", WIRES[:2])
def test_thinking_in_the_total_alone_is_billed_as_output(wire, tmp_path):
    verdict, _, _ = judged(wire, "usage_thinking_beside", tmp_path)
    assert verdict.usage.output_tokens == 801


@pytest.mark.parametrize(
    ("wire", "mode", "field"),
    [
        ("openai", "logprobs", "choices.0.message.content"),
        ("openai", "samples", "choices.0.message.content"),
        ("openai", "decision", "answers"),
        pytest.param("google-genai", "samples", "candidates.0.content", marks=WIRES[1].marks),
    ],
)
def test_a_paid_reply_that_cannot_be_read_is_kept_and_its_field_named(wire, mode, field, tmp_path):
    verdict, _, _ = judged(wire, "unreadable_reply", tmp_path, mode=mode)
    assert verdict.status == "unparsable"
    assert verdict.reason.startswith(f"the reply cannot be read: {field}: ")
    assert verdict.cost_usd > 0


@pytest.mark.parametrize("mode", ["logprobs", "decision"])
def test_server_sent_events_are_read(mode, tmp_path):
    verdict, _, _ = judged("openai", "events", tmp_path, mode=mode)
    assert verdict.reward == pytest.approx(LEVEL)


def test_a_filters_400_is_blocked_and_not_asked_again(tmp_path):
    verdict, _, _ = judged("openai", "filter_400", tmp_path)
    assert (verdict.status, verdict.estimated) == ("blocked", 1)
    assert "content_filter" in verdict.reason


def test_a_model_called_as_a_fault_has_it(tmp_path):
    with serve(ServerSettings(port=0), Echo().model) as server:
        judge = judge_settings("openai", server)
        for name in ("text_other_than_token", "scripted"):
            with type(judge)(**{**vars(judge), "model": name}).open(tmp_path / "ledger.sqlite") as opened:
                (verdict,) = opened.submit(completions([planted(LEVEL)])).result()
            assert verdict.status == ("ok" if name == "scripted" else "unparsable")
