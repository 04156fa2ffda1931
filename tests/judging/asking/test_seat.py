"""Two runs that share a ledger: what one of them has finished the other does not pay for."""

import sqlite3

import pytest

from dar_jax.judging import ScriptedJudge
from dar_jax.judging.ledger.ledger import Ledger
from tests.judging.sample_questions import completions

TEXTS = ["the cat sat", "a dog ran off"]


def judged(judge):
    return judge.submit(completions(TEXTS)).result()


async def nothing(self, key):
    return None


@pytest.fixture
def both(tmp_path, monkeypatch):
    """Two judges; the second has looked into the ledger before the first filed its answers, and asks after."""
    place = tmp_path / "ledger.sqlite"
    with ScriptedJudge().open(place) as one, ScriptedJudge().open(place) as other:
        first = judged(one)
        monkeypatch.setattr(Ledger, "get", nothing)
        yield place, other, first


def test_what_the_other_has_finished_meanwhile_is_not_asked(both):
    _, other, first = both
    second = judged(other)
    assert [verdict.distribution for verdict in second] == [verdict.distribution for verdict in first]
    assert all(verdict.from_ledger for verdict in second)
    assert (other.totals.annotations, other.totals.calls, other.spent.annotations) == (0, 0, 0)


def test_a_damaged_answer_is_told_once_and_bought_again(tmp_path):
    place = tmp_path / "ledger.sqlite"
    with ScriptedJudge().open(place) as judge:
        first = judged(judge)
    with sqlite3.connect(place) as database:
        database.execute("UPDATE answers SET answer = replace(answer, '1', '2') WHERE completion = 'the cat sat'")
    database.close()
    with ScriptedJudge().open(place) as judge:
        again = judged(judge)
        assert [verdict.distribution for verdict in again] == [verdict.distribution for verdict in first]
        assert judge.totals.annotations == 1
        (told,) = judge.notices()
    assert "has a damaged answer" in told


def test_what_both_asked_at_once_is_paid_twice_and_says_so(both, monkeypatch):
    place, other, _ = both
    monkeypatch.setattr(Ledger, "get_now", lambda self, key: None)
    second = judged(other)
    assert not any(verdict.from_ledger for verdict in second)
    assert (other.totals.annotations, other.spent.annotations) == (2, 2)
    other.close()
    with Ledger(place) as ledger:
        assert ledger.spent.annotations == 4
