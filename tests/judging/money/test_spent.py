import asyncio
import dataclasses
import sqlite3

import pytest

from dar_jax.chat.wire import Request
from dar_jax.errors import DarError, SettingError
from dar_jax.judging.ledger.ledger import Ledger
from dar_jax.judging.money.prices import FREE, Price
from dar_jax.judging.money.spent import Paid, Spent, billed, estimate, lost_answers, size, total
from dar_jax.records import Message, Usage
from tests.judging.ledger.test_ledger import ANSWER, put, question

PRICE = Price(input=1.0, cached=0.1, output=10.0, date="2026-11")
SILENT = dataclasses.replace(ANSWER, usage=None)


def asked(text: str, **settings: int) -> Request:
    return Request(messages=(Message(role="user", content=text),), **{"max_tokens": 16} | settings)


def test_an_estimate_is_the_questions_size_and_all_the_output_allowed():
    assert estimate(asked("x" * 40, n=8)).usage == Usage(input_tokens=10, output_tokens=8 * 16)
    assert estimate(asked("x" * 41)).usage.input_tokens == 11
    assert size(asked("你好")) == 6
    assert estimate(asked("half a character: \ud83d")).annotations == 1


def test_what_the_server_says_takes_the_place_of_the_estimate():
    usage = Usage(input_tokens=7, cached_tokens=2, output_tokens=1)
    assert billed(asked("x" * 40), usage) == Spent(annotations=1, usage=usage)
    assert billed(asked("x" * 40), None) == estimate(asked("x" * 40))


def test_an_unknown_price_gives_unknown_dollars():
    spent = Spent(annotations=2, usage=Usage(input_tokens=1000, cached_tokens=400, output_tokens=10))
    assert spent.usd(None) is None
    assert spent.usd(FREE) == 0.0
    assert spent.usd(PRICE) == pytest.approx(740e-6)
    assert spent.usd(dataclasses.replace(PRICE, cached=None)) == pytest.approx(1100e-6)


def test_sums_do_not_depend_on_the_order():
    rows = [Paid("{}", 0, tokens, tokens // 3, 1) for tokens in range(1, 51)]
    assert total(rows) == total(rows[::-1])
    assert total(rows) - total(rows[:20]) == total(rows[20:])
    assert total([]) == Spent()


def spent(place, *others) -> Spent:
    with Ledger(place, others) as ledger:
        return ledger.spent


@pytest.fixture(params=["file", "url"])
def places(request, tmp_path):
    """Where two hosts of a run keep their answers."""
    if request.param == "file":
        return tmp_path / "ledger.sqlite", tmp_path / "ledger-1.sqlite"
    return f"file://{tmp_path}/ledger/0", f"file://{tmp_path}/ledger/1"


def test_a_ledger_says_what_all_hosts_have_paid(places):
    """Also for a question that both have paid for: the sum is the run's, whoever opens it."""
    one, other = places
    for place, text in ((one, "a"), (one, "both"), (other, "both"), (other, "b"), (other, "c")):
        put(place, question(text))
    usage = ANSWER.usage
    five = Spent(annotations=5, usage=usage + usage + usage + usage + usage)
    for own, others in ((one, [other]), (other, [one])):
        assert spent(own, *([] if isinstance(own, str) else others)) == five


def test_many_small_objects_count_once(tmp_path):
    """They become one, which is theirs again."""
    place = f"file://{tmp_path}/ledger/0"
    with Ledger(place) as ledger:
        assert ledger.spent == Spent()
        for number in range(70):
            asyncio.run(ledger.put(question(str(number)), ANSWER, 1))
    assert spent(place).annotations == 70


def test_an_answer_without_usage_counts_alike_when_it_is_given_and_in_a_resume(places):
    put(places[0], question("a long question"), SILENT)
    assert spent(places[0]) == billed(question("a long question").request, None)


def test_a_ledger_with_fewer_answers_than_the_log_is_told():
    """A log that SQLite cut at its first bad frame, or a file that somebody deleted."""
    rows = [{"step": 1, "judge/spent_annotations": 40}, {"step": 2, "judge/spent_annotations": 99}, {"step": 3}]
    told = lost_answers(Spent(annotations=53), rows)
    assert "the ledger holds 53 answers, the log has 99 at step 2: the others are lost" in told
    assert lost_answers(Spent(), rows)
    assert lost_answers(Spent(annotations=99), rows) is None
    assert lost_answers(Spent(), []) is None


@pytest.mark.parametrize("value", ["'many'", "-1000000000000", "0", "4294967297", "1.5", "x'00'"])
def test_a_stored_count_that_cannot_be_true_is_estimated(value, tmp_path):
    """A text is no TypeError, and a negative count takes nothing off the sum."""
    path = tmp_path / "ledger.sqlite"
    put(path, question("a"))
    with sqlite3.connect(path) as database:
        database.execute(f"UPDATE answers SET input_tokens = {value}")
    database.close()
    assert spent(path) == billed(question("a").request, None)


def test_a_damaged_request_is_said_at_opening(tmp_path):
    path = tmp_path / "ledger.sqlite"
    put(path, question("a"), SILENT)
    for damage in ("{}", "[]", "x"):
        with sqlite3.connect(path) as database:
            database.execute("UPDATE answers SET request = ?", (damage,))
        database.close()
        with pytest.raises(SettingError, match="is damaged"):
            spent(path)


def test_a_number_too_large_for_the_database_is_no_traceback(tmp_path):
    huge = dataclasses.replace(ANSWER, usage=Usage(input_tokens=10**30))
    with pytest.raises(DarError, match="cannot be written"):
        put(tmp_path / "ledger.sqlite", question("a"), huge)
