import asyncio
import dataclasses
import os
import signal
import sqlite3
import subprocess
import sys

import pytest

from dar_jax.chat.wire import Alternative, Answer, AnswerChoice, Level, Request, Score
from dar_jax.errors import DarError, SettingError
from dar_jax.judging.ledger.ledger import Ledger, Question
from dar_jax.records import Message, Usage

TOP = (Alternative(token="7", logprob=-0.1),)
ANSWER = Answer(
    choices=(AnswerChoice(text="7", finish="stop", finish_name="stop", top=TOP),),
    served_model="m-1",
    usage=Usage(input_tokens=5, cached_tokens=1, output_tokens=2),
    raw='{"the": "body"}',
)


def question(text: str = "c", **judge: object) -> Question:
    request = Request(messages=(Message(role="user", content=text),), max_tokens=8)
    return Question(judge={"model": "m", **judge}, request=request, prompt="p", completion=text)


def put(path, asked: Question, answer: Answer = ANSWER) -> None:
    with Ledger(path) as ledger:
        asyncio.run(ledger.put(asked, answer, 1))


def get(path, asked: Question) -> Answer | None:
    with Ledger(path) as ledger:
        return asyncio.run(ledger.get(asked.key))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "ledger.sqlite"


def test_an_answer_is_there_the_next_time(path):
    put(path, question())
    found = get(path, question())
    assert (found.choices, found.usage, found.served_model) == (ANSWER.choices, ANSWER.usage, "m-1")
    assert get(path, question("other")) is None


def test_the_first_answer_stays(path):
    put(path, question())
    put(path, question(), Answer(choices=(), served_model="later"))
    assert get(path, question()).served_model == "m-1"


def test_what_came_later_changes_no_key():
    """Answers that were paid for before a request had typed scores are still found."""
    plain = question().request.to_plain()
    assert set(plain) == {"messages", "max_tokens", "temperature", "n", "seed", "top_logprobs", "choices"}
    assert question().key == "20fa8d20a3c1559c0a5c39b8534e84262306ac9fc3b894bf15af4426a2c17986"


def test_a_weight_decides_no_answer():
    keys = set()
    for weight in (1.0, 2.0):
        levels = (Level(label="0"), Level(label="1"))
        score = Score(name="a", instructions="How?", levels=levels, weight=weight)
        request = dataclasses.replace(question().request, scores=(score,))
        keys.add(dataclasses.replace(question(), request=request).key)
    assert len(keys) == 1
    assert question().key not in keys


def test_all_that_decides_an_answer_is_in_the_key():
    asked = question()
    others = [
        question("d"),
        question(model="other"),
        question(endpoint="elsewhere"),
        Question(
            judge=asked.judge,
            request=Request(messages=asked.request.messages, max_tokens=8, seed=1),
            prompt="p",
            completion="c",
        ),
    ]
    assert len({each.key for each in (asked, *others)}) == 5
    assert question().key == asked.key


def test_the_rows_serve_audits(path):
    put(path, question())
    with sqlite3.connect(path) as database:
        row = database.execute(
            "SELECT prompt, completion, raw, served_model, input_tokens, cached_tokens, output_tokens, description"
            " FROM answers JOIN judges ON judge = id"
        ).fetchone()
    database.close()
    assert row == ("p", "c", ANSWER.raw, "m-1", 5, 1, 2, '{"model": "m"}')


def test_texts_that_no_file_can_hold_are_stored_all_the_same(path):
    put(path, question("half a character: \ud83d"))
    assert get(path, question("half a character: \ud83d")) is not None


def test_two_runs_may_share_a_ledger(path):
    with Ledger(path) as one, Ledger(path) as other:

        async def both():
            await asyncio.gather(
                *(ledger.put(question(f"{i}"), ANSWER, 1) for i in range(20) for ledger in (one, other))
            )
            return [await other.get(question(f"{i}").key) for i in range(20)]

        assert None not in asyncio.run(both())


def test_a_damaged_ledger_is_said(path):
    with Ledger(path) as ledger:

        async def many():
            await asyncio.gather(*(ledger.put(question(f"text {i}" * 50), ANSWER, 1) for i in range(200)))

        asyncio.run(many())
    whole = path.read_bytes()
    for broken in (whole[: len(whole) // 2], whole[:-100], whole[:4096] + b"\0" * 8192):
        path.write_bytes(broken)
        with pytest.raises(SettingError, match=r"ledger\.sqlite is damaged"):
            Ledger(path)


def test_another_programs_database_is_refused(path):
    path.parent.mkdir()
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE cats (name)")
    database.close()
    with pytest.raises(SettingError, match="something else"):
        Ledger(path)


def test_a_place_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingError, match="cannot be opened"):
        Ledger(tmp_path / "file" / "ledger.sqlite")


def test_an_answer_that_cannot_be_written_is_not_used(path):
    with Ledger(path) as ledger:
        ledger._writer.submit(ledger._database.execute, "PRAGMA query_only = 1").result()
        with pytest.raises(DarError, match="cannot be written"):
            asyncio.run(ledger.put(question(), ANSWER, 1))


def test_a_caller_that_gives_up_loses_no_row(path):
    async def cancelled(ledger):
        tasks = [asyncio.create_task(ledger.put(question(f"{i}"), ANSWER, 1)) for i in range(8)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    with Ledger(path) as ledger:
        outcomes = asyncio.run(asyncio.wait_for(cancelled(ledger), 10))
    assert outcomes[1::2] == [ANSWER] * 4
    assert all(get(path, question(f"{i}")) for i in range(8))


KILLED = """
import asyncio, sys
from dar_jax.judging.ledger.ledger import Ledger
from tests.judging.ledger.test_ledger import ANSWER, question
ledger = Ledger(sys.argv[1])
async def many():
    for i in range(10_000):
        await ledger.put(question(f"{i}"), ANSWER, 1)
        print(i, flush=True)
asyncio.run(many())
"""


def test_what_was_used_outlives_a_kill(path):
    with subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True) as process:
        used = [int(process.stdout.readline()) for _ in range(30)]
        os.kill(process.pid, signal.SIGKILL)
        used += [int(line) for line in process.stdout.read().splitlines()]
    with Ledger(path) as ledger:

        async def kept():
            return [await ledger.get(question(f"{i}").key) for i in used]

        assert None not in asyncio.run(kept())


def test_answers_of_other_hosts_are_found_and_left_alone(path, tmp_path):
    """A resume on another number of hosts asks other hosts' questions, which are paid for."""
    other = tmp_path / "ledger-1.sqlite"
    with Ledger(other) as ledger:
        asyncio.run(ledger.put(question("theirs"), ANSWER, 1))
    before = other.read_bytes()
    with Ledger(path, [other]) as ledger:
        asyncio.run(ledger.put(question("mine"), ANSWER, 1))
        assert asyncio.run(ledger.get(question("theirs").key)) == ANSWER
    assert get(path, question("mine"))
    assert get(path, question("theirs")) is None
    assert other.read_bytes() == before


def test_another_hosts_damaged_ledger_is_named(path, tmp_path):
    other = tmp_path / "ledger-1.sqlite"
    other.write_bytes(b"not a database, though long enough to be looked at as one" * 99)
    with pytest.raises(SettingError, match=r"ledger-1.sqlite is not a ledger"):
        Ledger(path, [other])
