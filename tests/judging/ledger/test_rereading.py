"""A stored answer gives again what the judge made of it."""

import math
from dataclasses import replace

import pytest

from dar_jax.chat.scripted.server import ServerSettings, serve
from dar_jax.chat.wire import Alternative
from dar_jax.judging.ledger import readers
from dar_jax.judging.ledger.rereading import price, reread
from dar_jax.judging.money.prices import FREE, Price, list_price
from tests.judging.ledger.test_audit import asked
from tests.judging.ledger.test_ledger import ANSWER, put
from tests.judging.sample_questions import Echo, completions, planted
from tests.judging.test_judge import ANSWERS
from tests.wires import judge_settings

FLOOR = 0.5


def judged(tmp_path, server, texts, **settings):
    with judge_settings("openai", server, **settings).open(tmp_path / "ledger.sqlite") as judge:
        verdicts = judge.submit(completions(texts)).result()
    return verdicts, list(readers.LedgerFile(tmp_path / "ledger.sqlite").rows())


@pytest.mark.parametrize("levels", [10, 4])
@pytest.mark.parametrize("mode", ["logprobs", "single", "samples"])
def test_a_reward_is_read_as_the_judge_read_it(mode, levels, tmp_path):
    with serve(model=Echo().model) as server:
        texts = [planted(level) for level in (3.25, 7.5, 10.0)]
        verdicts, rows = judged(tmp_path, server, texts, mode=mode, levels=levels, samples=3)
    again = {row.completion: reread(row, FLOOR) for row in rows}
    for text, verdict in zip(texts, verdicts, strict=True):
        assert again[text].distribution == verdict.distribution
        assert (again[text].status, again[text].provenance, again[text].usage) == ("ok", mode, verdict.usage)


@pytest.mark.parametrize("fault", ANSWERS)
def test_an_unusable_answer_is_never_a_number(fault, tmp_path):
    with serve(ServerSettings(port=0, faults={fault: 1.0})) as server:
        (verdict,), (row,) = judged(tmp_path, server, ["A completion."])
    again = reread(row, FLOOR)
    assert (again.status, again.reason, again.reward) == (verdict.status, verdict.reason, None)


def test_the_floor_is_the_readers(tmp_path):
    choice = replace(ANSWER.choices[0], top=(Alternative(token="7", logprob=math.log(0.3)),))
    put(tmp_path / "ledger.sqlite", asked("a"), replace(ANSWER, choices=(choice,)))
    (row,) = readers.LedgerFile(tmp_path / "ledger.sqlite").rows()
    assert [reread(row, floor).status for floor in (0.5, 0.0)] == ["unparsable", "ok"]


NOTHING_ASKED = '{"choices": [], "n": 1, "top_logprobs": 0, "seed": null}'


@pytest.mark.parametrize(
    "damage",
    [
        {"answer": "{"},
        {"answer": '{"choices": 1}'},
        {"request": "x"},
        {"request": "[]"},
        {"request": "{}"},
        {"request": NOTHING_ASKED},
    ],
)
def test_a_damaged_row_is_said(damage, tmp_path):
    with serve() as server:
        _, (row,) = judged(tmp_path, server, ["A completion."])
    again = reread(row._replace(**damage), FLOOR)
    assert (again.status, again.reward) == ("failed", None)
    assert "cannot be read" in again.reason


def test_a_price_is_stated_listed_or_unknown():
    gpt = {"wire": "openai", "model": "gpt-4o-mini", "endpoint": "https://api.openai.com/v1"}
    google = "https://generativelanguage.googleapis.com"
    gemini = {"wire": "gemini", "model": "gemini-2.5-flash", "endpoint": f"{google}/v1beta"}
    assert price(gpt) == list_price("gpt-4o-mini")
    assert price(gemini) == list_price("gemini-2.5-flash")
    assert price(gpt | {"endpoint": "http://127.0.0.1:1/v1"}) is None
    assert price(gemini | {"endpoint": f"{google}.evil.example/v1"}) is None
    assert price({"wire": "scripted", "model": "scripted-overlap"}) == FREE
    assert price({}) is None
    mine = Price(input=1.0, output=2.0, date="2026-11")
    with serve() as server:
        stated = judge_settings("openai", server, prices=mine)
    assert price({"wire": "openai", "model": "scripted", "endpoint": "elsewhere"}, [stated]) == mine
    assert price(gpt, [stated]) == list_price("gpt-4o-mini")
