"""An audit makes judgements of several answers again, by the judge's own code."""

import dataclasses
import sqlite3

import pytest

from dar_jax.chat.scripted.server import serve
from dar_jax.judging import PanelJudge, ScriptedJudge
from dar_jax.judging.ledger import readers
from dar_jax.judging.ledger.audit import Audit, logged_of
from dar_jax.judging.ledger.rebuilding import Rebuilding
from dar_jax.judging.section import members
from dar_jax.reporting.steps import completion_rows
from tests.judging.questions.test_criteria import TWO
from tests.judging.sample_questions import Echo, completions, planted
from tests.wires import judge_settings

TEXTS = [planted(2), planted(7.5), "..."]
SETTINGS = {
    "criteria, one by one": lambda server: judge_settings("openai", server, criteria=TWO),
    "criteria, in one request": lambda server: judge_settings("openai", server, mode="decision", criteria=TWO),
    "permutations": lambda server: judge_settings("openai", server, mode="decision", permutations=3),
    "a mode found": lambda server: judge_settings("openai", server, mode="auto", criteria=TWO),
    "a panel": lambda server: PanelJudge(judges=(judge_settings("openai", server), ScriptedJudge(mode="samples"))),
}


def judged(path, settings):
    with settings.open(path) as judge:
        asked = completions(TEXTS)
        return completion_rows(3, asked, judge.submit(asked).result(), {})


def findings(path, rows, settings):
    logged = logged_of(rows, Rebuilding(members(settings)))
    return Audit(readers.find(path), 0.5, logged).findings()


@pytest.mark.parametrize("kind", SETTINGS)
def test_every_logged_reward_is_found_again(kind, tmp_path):
    path = tmp_path / "ledger.sqlite"
    with serve(model=Echo().model) as server:
        settings = SETTINGS[kind](server)
        rows = judged(path, settings)
        assert all(row["verdict"] == "ok" for row in rows)
        assert Rebuilding(members(settings)).needed
        assert findings(path, rows, settings) == []
        # A server that has moved since gave the same answers.
        moved = [dataclasses.replace(each, **_moved(each)) for each in members(settings)]
        settings = moved[0] if len(moved) == 1 else PanelJudge(judges=tuple(moved))
        assert findings(path, rows, settings) == []
    rows[0]["reward"] += 0.5
    (line,) = findings(path, rows, settings)
    assert "1 completion with another reward in completions.jsonl" in line


@pytest.mark.parametrize("kind", ["criteria, one by one", "permutations", "a panel"])
def test_an_answer_that_is_gone_is_missed(kind, tmp_path):
    path = tmp_path / "ledger.sqlite"
    with serve(model=Echo().model) as server:
        settings = SETTINGS[kind](server)
        rows = judged(path, settings)
    with sqlite3.connect(path) as database:
        database.execute("DELETE FROM checksums")
        database.execute("DELETE FROM answers WHERE rowid = (SELECT max(rowid) FROM answers)")
    database.close()
    (line,) = findings(path, rows, settings)
    assert "1 completion with a reward in completions.jsonl and no answer in the ledger" in line


def test_a_judgement_of_one_answer_needs_no_rebuilding():
    for settings in (ScriptedJudge(), ScriptedJudge(mode="decision"), ScriptedJudge(mode="auto")):
        assert not Rebuilding(members(settings)).needed


def _moved(settings):
    return {"base_url": "http://127.0.0.1:9/v1"} if settings.name == "openai" else {}
