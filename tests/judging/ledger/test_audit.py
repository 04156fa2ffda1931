import asyncio
import dataclasses
import json
import re

import pytest

from dar_jax.chat.wire import Request
from dar_jax.judging import ScriptedJudge
from dar_jax.judging.ledger import readers
from dar_jax.judging.ledger.audit import Audit, Logged
from dar_jax.judging.ledger.ledger import Ledger, Question
from dar_jax.records import Message
from dar_jax.reporting.steps import completion_rows
from dar_jax.runlog.objects import Objects
from tests.judging.ledger.test_ledger import ANSWER, put, question
from tests.judging.ledger.test_ledger_file import changed
from tests.judging.sample_questions import completions


def asked(text, **judge):
    """A question as a judge asks it."""
    choices = tuple("0123456789")
    request = Request(messages=(Message(role="user", content=text),), max_tokens=8, top_logprobs=20, choices=choices)
    return Question(judge={"model": "m", **judge}, request=request, prompt="p", completion=text)


def findings(folder, logged=None):
    return Audit(readers.find(folder), 0.5, logged).findings()


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "ledger.sqlite"
    put(path, asked("a"))
    return path


def test_a_sound_ledger_has_no_finding(path):
    assert findings(path) == []


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("DELETE FROM judges", r"1 answer of unknown judge \(\w{8}\): no judge is described under it"),
        ("UPDATE answers SET answer = '{'", "1 answer: damaged, for example: what is stored cannot be read"),
        ("UPDATE answers SET input_tokens = NULL", "1 answer without usage"),
        ("PRAGMA user_version = 9", "has version 9, this package writes 1"),
        ("PRAGMA application_id = 9", "something else"),
    ],
)
def test_what_is_wrong_is_one_line(path, statement, said):
    changed(path, "DELETE FROM checksums", statement)
    (line,) = findings(path)
    assert re.search(said, line)
    assert "\n" not in line


def test_a_changed_answer_is_named_damaged(path):
    for text in "bcd":
        put(path, asked(text))
    changed(path, "UPDATE answers SET answer = replace(answer, '7', '9') WHERE completion = 'b'")
    (line,) = findings(path)
    assert line == f"{path}: answer {asked('b').key[:12]} is damaged: its checksum differs"
    changed(path, "UPDATE answers SET input_tokens = 6")
    assert len(findings(path)) == 4


def test_an_answer_that_is_gone_is_found(path):
    put(path, asked("b"))
    changed(path, "DELETE FROM answers WHERE completion = 'b'")
    assert findings(path) == [f"{path}: 1 answers were filed and are gone"]


def test_a_changed_judge_is_found(path):
    changed(path, "UPDATE judges SET description = replace(description, 'm', 'n')")
    (line,) = findings(path)
    assert "the description of this judge is damaged" in line


def test_answers_without_reward_are_counted_by_reason(path):
    for text, finish in (("b", "length"), ("c", "length"), ("d", "refusal")):
        choice = dataclasses.replace(ANSWER.choices[0], finish=finish, finish_name=finish)
        put(path, asked(text), dataclasses.replace(ANSWER, choices=(choice,)))
    assert findings(path) == [
        "2 answers: no reward (truncated), for example: finish reason 'length', reply '7'",
        "1 answer: no reward (refused), for example: finish reason 'refusal', reply '7'",
    ]


def test_an_old_answer_read_from_the_thinking_is_found(path):
    """Its raw reply tells: the log-probabilities were of a token of the thinking, and made a reward."""
    positions = [{"token": token, "logprob": -0.1, "top_logprobs": []} for token in ("7", ".", " Good")]
    message = {"message": {"content": "7"}, "finish_reason": "stop", "logprobs": {"content": positions}}
    raw = json.dumps({"model": "m-1", "choices": [message]})
    put(path, asked("b", wire="openai"), dataclasses.replace(ANSWER, raw=raw))
    assert findings(path) == [
        "1 answer: no reward (unparsable), for example: log-probabilities of other tokens than the reply's, reply '7'"
    ]


def test_a_drifted_model_is_seen(path):
    put(path, asked("b"), dataclasses.replace(ANSWER, served_model="m-2"))
    put(path, asked("c", model="n"), dataclasses.replace(ANSWER, served_model="n-1"))
    (line,) = findings(path)
    assert line.startswith('m, "" (')
    assert line.endswith("was served by 2 models: m-1 1, m-2 1")


def test_two_answers_to_one_question_are_seen_and_copies_are_none(path, tmp_path):
    put(tmp_path / "ledger-1.sqlite", asked("a"))
    assert findings(tmp_path) == []
    put(tmp_path / "ledger-2.sqlite", asked("a"), dataclasses.replace(ANSWER, raw="another"))
    assert findings(tmp_path) == ["1 question asked twice, with another answer; the first is used"]


def test_damage_is_found(path):
    with Ledger(path) as ledger:

        async def many():
            await asyncio.gather(*(ledger.put(question(f"text {i}" * 50), ANSWER, 1) for i in range(200)))

        asyncio.run(many())
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    assert "its end is missing" in findings(path)[0]
    path.write_bytes(whole[:4096] + b"\0" * 8192)
    assert "ledger.sqlite" in findings(path)[0]


def test_damaged_segments_are_found(url):
    put(f"{url}/ledger/0", asked("a"))
    Objects(f"{url}/ledger/1").create("00000001.jsonl", b"{").finish()
    (line,) = findings(url)
    assert "ledger/1/00000001.jsonl is damaged" in line


@pytest.fixture
def run(tmp_path):
    """A ledger, and what a run logs of the completions judged: one by rule."""
    words = completions(["the cat sat", "a dog ran off", "..."])
    with ScriptedJudge().open(tmp_path / "ledger.sqlite") as judge:
        verdicts = judge.submit(words).result()
    return tmp_path, completion_rows(3, words, verdicts, {})


def test_every_reward_of_a_run_has_its_answer(run):
    folder, rows = run
    logged = Logged(rows)
    assert logged.count == 2
    assert findings(folder, logged) == []


def test_a_completion_without_an_answer_is_found(run):
    folder, rows = run
    rows.append(rows[0] | {"completion": "never judged", "sample": 5})
    assert findings(folder, Logged(rows)) == [
        "1 completion with a reward in completions.jsonl and no answer in the ledger,"
        " the first: step 3, prompt_id 7, sample 5"
    ]


def test_another_reward_than_the_answers_is_found(run):
    folder, rows = run
    rows[0]["reward"] += 0.5
    assert findings(folder, Logged(rows)) == [
        "1 completion with another reward in completions.jsonl than the answer gives,"
        " the first: step 3, prompt_id 7, sample 0"
    ]
