"""`mode: auto`: one question at the start finds out how a judge can answer."""

import dataclasses
import importlib.util

import pytest

from dar_jax.chat.failures import Rejected
from dar_jax.chat.scripted.server import ServerSettings, serve
from dar_jax.errors import BudgetSpent, JudgeStopped
from dar_jax.judging import GeminiJudge, OpenAIJudge, ScriptedJudge
from dar_jax.judging.money.prices import Price
from tests.judging.sample_questions import Echo, completions, planted
from tests.judging.test_judge import verdicts

GENAI = pytest.mark.skipif(importlib.util.find_spec("google.genai") is None, reason="no google.genai")


@pytest.fixture
def ledger(tmp_path):
    return tmp_path / "ledger.sqlite"


class Limited:
    """A model of a server that does less than the scripted one: no decisions, no log-probabilities, one answer."""

    def __init__(self, *, decides=False, tells=True, draws=True):
        self.name, self.model, self.decides, self.tells, self.draws = "limited", Echo().model, decides, tells, draws
        self.asked = 0

    def answer(self, request):
        self.asked += 1
        if request.scores and not self.decides:
            raise Rejected("there is no such endpoint")
        if request.n > 1 and not self.draws:
            raise Rejected("n is not supported")
        answer = self.model.answer(request)
        if self.tells:
            return answer
        return dataclasses.replace(answer, choices=tuple(dataclasses.replace(c, top=None) for c in answer.choices))


def auto(server, **settings):
    patience = {"attempts": 2, "attempt_timeout_s": 5.0, "deadline_s": 10.0} | settings
    return OpenAIJudge(model="m", base_url=server.openai_url, mode="auto", **patience)


@pytest.mark.parametrize(
    ("model", "mode", "paid"),
    [
        (Limited(decides=True), "decision", 1),
        (Limited(), "logprobs", 1),
        (Limited(tells=False), "samples", 2),
        (Limited(tells=False, draws=False), "single", 2),
    ],
)
def test_the_best_mode_that_works_is_taken_and_a_resume_probes_for_free(model, mode, paid, ledger):
    with serve(model=model) as server:
        settings = auto(server, endpoint="mine")
        with settings.open(ledger) as judge:
            assert f"mode {mode} (found)" in judge.describe()
            assert judge.totals.annotations == paid
            (verdict,) = judge.submit(completions([planted(4)])).result()
        assert (verdict.reward, verdict.provenance) == (pytest.approx(4.0), mode)
        asked = model.asked
        with settings.open(ledger) as judge:
            assert f"mode {mode} (found)" in judge.describe()
            assert (model.asked, judge.totals.calls) == (asked, 0)


def test_a_resume_goes_on_with_the_mode_it_began_with(ledger):
    """A server that has learnt decisions meanwhile would give rewards of another kind."""
    for model in (Limited(), Limited(decides=True)):
        with serve(model=model) as server, auto(server, endpoint="mine").open(ledger) as judge:
            assert "mode logprobs (found)" in judge.describe()


@pytest.mark.parametrize("fault", ["bad_key", "server_error", "reset_before", "hang", "quota", "rate_limit"])
def test_trouble_is_no_reason_to_take_a_worse_mode(fault, ledger):
    settings = ServerSettings(port=0, faults={fault: 1.0}, hang_s=60)
    with serve(settings) as server:
        judge = auto(server, attempt_timeout_s=0.3, deadline_s=1.0)
        with pytest.raises(JudgeStopped, match="the judge does not answer"):
            judge.open(ledger)
        assert len(server.asked) == 1, "another mode was tried"


def test_a_server_that_knows_no_mode_is_said(ledger):
    class Silent(Limited):
        def answer(self, request):
            raise Rejected("no")

    with serve(model=Silent()) as server, pytest.raises(JudgeStopped, match="none of 4 judgements came back"):
        auto(server).open(ledger)


def test_a_judge_that_answers_with_prose_is_useless_in_every_mode(ledger):
    prose = ServerSettings(port=0, faults={"prose": 1.0})
    with serve(prose) as server, pytest.raises(JudgeStopped, match="the judge is useless"):
        auto(server).open(ledger)


def test_a_probe_is_paid_from_the_budget(ledger):
    with serve(model=Limited(tells=False)) as server:
        with pytest.raises(BudgetSpent, match=r"judge\.budget_annotations=1"):
            auto(server, budget_annotations=1).open(ledger)
        price = Price(input=1.0, output=1.0, date="2026-11")
        with auto(server, budget_annotations=3, prices=price).open(ledger) as judge:
            assert judge.totals.annotations == 1
            assert judge.spent_before.annotations == 1


@GENAI
def test_gemini_without_log_probabilities_is_sampled(ledger):
    with serve(model=Limited(tells=False)) as server:
        settings = GeminiJudge(model="m", base_url=server.url, sdk="google-genai", mode="auto", attempts=1)
        with settings.open(ledger) as judge:
            assert "mode samples (found)" in judge.describe()


def test_the_ended_sdk_passes_decisions_over(ledger):
    pytest.importorskip("google.ai.generativelanguage")
    with serve() as server:
        settings = GeminiJudge(model="m", base_url=server.url, sdk="google-generativeai", mode="auto", attempts=1)
        with settings.open(ledger) as judge:
            assert "mode logprobs (found)" in judge.describe()


def test_in_process_decisions_are_found(ledger):
    with ScriptedJudge(mode="auto").open(ledger) as judge:
        assert "mode decision (found)" in judge.describe()


def test_the_price_is_that_of_the_mode_found(ledger, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    settings = OpenAIJudge(model="gpt-6-luna", mode="auto", budget_usd=1.0)
    assert settings.price.output == 0.50


def test_the_probe_is_counted_and_is_nobodys_verdict(ledger):
    with serve(model=Echo().model) as server:
        found, totals = verdicts(auto(server), ledger, [planted(2)])
    assert (found[0].reward, totals.annotations, totals.ledger_hits) == (pytest.approx(2.0), 2, 0)
