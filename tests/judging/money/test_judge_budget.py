"""A judge that may not spend more: through a real socket, and across restarts."""

import time

import pytest

from dar_jax.chat.scripted.server import ServerSettings, serve
from dar_jax.config.config_file import parse_config
from dar_jax.errors import SettingError
from dar_jax.judging import OpenAIJudge, ScriptedJudge
from dar_jax.judging.money.prices import Price
from dar_jax.judging.money.spent import estimate
from dar_jax.judging.questions.calls import about_one
from tests.judging.sample_questions import completions
from tests.wires import WIRES, judge_settings

PRICE = Price(input=1.0, cached=0.5, output=2.0, date="2026-11")
TEXTS = [f"Completion number {number}." for number in range(12)]


@pytest.fixture
def ledger(tmp_path):
    return tmp_path / "ledger.sqlite"


def judged(settings, ledger, texts=TEXTS):
    """Return the verdicts, and what the run has spent before and since."""
    with settings.open(ledger) as judge:
        return judge.submit(completions(texts)).result(), judge.spent_before, judge.spent


def statuses(verdicts):
    return [verdict.status for verdict in verdicts]


@pytest.mark.parametrize("wire", WIRES)
def test_it_asks_as_often_as_it_may(wire, ledger):
    with serve(ServerSettings(port=0, latency_s=0.02)) as server:
        settings = judge_settings(wire, server, budget_annotations=5, concurrency=4)
        verdicts, before, spent = judged(settings, ledger)
        assert server.asked.total() == 5
    assert (before.annotations, spent.annotations) == (0, 5)
    assert sorted(statuses(verdicts)) == ["ok"] * 5 + ["over_budget"] * 7
    missing = next(verdict for verdict in verdicts if verdict.status == "over_budget")
    assert (missing.reward, missing.calls, missing.cost_usd) == (None, 0, 0.0)
    assert missing.reason == "judge.budget_annotations=5 has no room for this question: 5 spent"


def test_a_restart_goes_on_counting_and_more_goes_on_asking(ledger):
    with serve() as server:
        first, _, _ = judged(judge_settings("openai", server, budget_annotations=5), ledger)
        again, before, spent = judged(judge_settings("openai", server, budget_annotations=5), ledger)
        assert server.asked.total() == 5
        assert (before.annotations, spent.annotations) == (5, 0)
        assert statuses(again) == statuses(first)
        assert all(verdict.from_ledger for verdict in again if verdict.status == "ok")
        whole, _, spent = judged(judge_settings("openai", server, budget_annotations=12), ledger)
        assert set(server.asked.values()) == {1}
    assert (statuses(whole), spent.annotations) == (["ok"] * 12, 7)


def test_dollars_are_estimated_before_and_counted_after(ledger, tmp_path):
    """All fit by what they cost, though not all would by what they might cost: those that wait find room later."""
    with serve(ServerSettings(port=0, latency_s=0.01)) as server:
        free, _, spent = judged(judge_settings("openai", server, prices=PRICE), ledger)
        cost = spent.usd(PRICE)
        assert cost == pytest.approx(sum(verdict.cost_usd for verdict in free))
        settings = judge_settings("openai", server)
        might = max(estimate(about_one(settings, each)[0].request).usd(PRICE) for each in completions(TEXTS))
        assert might > 1.2 * cost / 12
        enough = judge_settings("openai", server, prices=PRICE, budget_usd=cost * 11 / 12 + 1.01 * might)
        verdicts, _, _ = judged(enough, tmp_path / "enough.sqlite")
        assert statuses(verdicts) == ["ok"] * 12
        half = judge_settings("openai", server, prices=PRICE, budget_usd=cost / 2)
        verdicts, _, spent = judged(half, tmp_path / "half.sqlite")
        asked = server.asked.total()
        assert cost / 2 - 1.01 * might < spent.usd(PRICE) <= cost / 2
        assert "judge.budget_usd=" in verdicts[-1].reason
        again, before, more = judged(half, tmp_path / "half.sqlite")
        assert server.asked.total() == asked
    assert statuses(again) == statuses(verdicts)
    assert (before, more.annotations) == (spent, 0)


def test_what_fails_gives_its_room_to_another(ledger):
    """Calls that no answer came of cost nothing; more than the limit is asked, no more is billed."""
    with serve(ServerSettings(port=0, faults={"bad_key": 0.5}, seed=2)) as server:
        verdicts, _, spent = judged(judge_settings("openai", server, budget_annotations=4), ledger)
        assert server.answered.total() == 4
    assert spent.annotations == 4
    assert {"ok", "failed", "over_budget"} == set(statuses(verdicts))


def test_repeats_and_rules_cost_nothing(ledger):
    settings = ScriptedJudge(budget_annotations=2)
    verdicts, _, spent = judged(settings, ledger, ["Same.", "...", "Same.", "Other.", "", "Same."])
    assert (statuses(verdicts), spent.annotations) == (["ok"] * 6, 2)
    verdicts, _, spent = judged(settings, ledger, ["Other.", ":", "Third."])
    assert (statuses(verdicts), spent.annotations) == (["ok", "ok", "over_budget"], 0)


def test_a_free_judge_is_not_stopped_by_dollars(ledger):
    assert statuses(judged(ScriptedJudge(budget_usd=1e-9), ledger)[0]) == ["ok"] * 12


def test_what_is_under_way_at_the_deadline_is_counted(ledger):
    with serve(ServerSettings(port=0, latency_s=0.6)) as server:
        settings = judge_settings("openai", server, batch_deadline_s=0.3, budget_annotations=2)
        with settings.open(ledger) as judge:
            assert statuses(judge.submit(completions(TEXTS)).result()) == ["timeout"] * 12
            time.sleep(0.8)
            assert judge.spent.annotations == 2
        assert server.asked.total() == 2


TEXT = "{policy: {path: p}, data: {path: d}, judge: {name: openai, model: gpt-4.1-mini}}"


def test_dollars_need_a_price():
    """Trap open-instruct: an unknown model costs $0 there."""
    assert parse_config(TEXT, ["judge.budget_usd=5"], where="run.yaml").judge.budget_usd == 5
    elsewhere = ["judge.budget_usd=5", "judge.base_url=http://127.0.0.1:1/v1"]
    with pytest.raises(SettingError, match=r"judge: budget_usd is 5, .* price is unknown, not 0; state judge\.prices"):
        parse_config(TEXT, elsewhere, where="run.yaml")
    priced = "judge.prices={input: 1, output: 1, date: 2026-11-01}"
    assert parse_config(TEXT, [*elsewhere, priced], where="run.yaml").judge.price.input == 1
    parse_config(TEXT, [*elsewhere[1:], "judge.budget_annotations=5"], where="run.yaml")


@pytest.mark.parametrize("setting", ["budget_usd", "budget_annotations"])
def test_no_budget_is_no_number(setting):
    for value in (0, -1, ".inf"):
        with pytest.raises(SettingError, match=rf"judge\.{setting}: got .*, expected (greater than 0|a .*number)"):
            parse_config(TEXT, [f"judge.{setting}={value}"], where="run.yaml")


def test_a_share_of_the_rates_is_not_a_share_of_the_budget():
    """What is left is divided when the ledger is open."""
    judge = OpenAIJudge(model="m", base_url="http://h/v1", budget_annotations=10)
    assert judge.share(1, 2).budget_annotations == 10
