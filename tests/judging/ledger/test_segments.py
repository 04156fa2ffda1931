"""A ledger under a URL: on files and behind Google Cloud Storage's API, by the same code."""

import asyncio
import dataclasses
import json
import subprocess
import sys

import pytest

from dar_jax.errors import DarError, SettingError
from dar_jax.judging import ScriptedJudge
from dar_jax.judging.ledger.ledger import Ledger
from dar_jax.judging.ledger.segments import Segments
from dar_jax.runlog import objects
from dar_jax.runlog.objects import Objects
from tests.fake_gcs import BRIEF
from tests.judging.ledger.test_ledger import ANSWER, KILLED, get, put, question
from tests.judging.sample_questions import completions


@pytest.fixture
def place(url):
    return f"{url}/ledger/0"


def beside(place, process):
    return place.replace("/ledger/0", f"/ledger/{process}")


def names(place):
    return Objects(place.rpartition("/")[0]).names()


def test_an_answer_is_there_the_next_time(place):
    put(place, question())
    found = get(place, question())
    assert (found.choices, found.usage, found.served_model) == (ANSWER.choices, ANSWER.usage, "m-1")
    assert get(place, question("other")) is None


def test_all_processes_see_all_answers_and_write_their_own(place):
    put(place, question("a"))
    put(beside(place, 1), question("b"))
    put(beside(place, 12), question("c"))
    assert names(place) == ["0/00000001.jsonl", "1/00000001.jsonl", "12/00000001.jsonl"]
    assert all(get(beside(place, process), question(text)) for process in (0, 1, 12) for text in "abc")


def test_of_two_answers_a_process_goes_on_with_its_own(place):
    """Both processes asked before either could know; each has used what it got."""
    with Ledger(place) as one, Ledger(beside(place, 1)) as other:
        asyncio.run(one.put(question(), ANSWER, 1))
        asyncio.run(other.put(question(), dataclasses.replace(ANSWER, served_model="m-2"), 1))
    assert get(place, question()).served_model == "m-1"
    assert get(beside(place, 1), question()).served_model == "m-2"


def test_a_resumed_process_counts_on(place):
    for text in "abc":
        put(place, question(text))
    assert names(place) == [f"0/0000000{i}.jsonl" for i in (1, 2, 3)]


def test_what_the_segments_say_serves_audits(place):
    asked = [question("half a character: \ud83d"), question("d"), question("e", model="other")]
    with Ledger(place) as ledger:

        async def together():
            await asyncio.gather(*(ledger.put(each, ANSWER, 2) for each in asked))

        asyncio.run(together())
    store = Objects(place.rpartition("/")[0])
    rows = [json.loads(line) for _, content in store.read_each(store.names()) for line in content.splitlines()]
    assert [(row["completion"], row["raw"], row["input_tokens"], row["attempts"]) for row in rows] == [
        ("half a character: ?", ANSWER.raw, 5, 2),
        ("d", ANSWER.raw, 5, 2),
        ("e", ANSWER.raw, 5, 2),
    ]
    assert {row["description"] for row in rows} >= {'{"model": "m"}', '{"model": "other"}'}
    assert all(get(place, each) for each in asked)


def test_many_small_objects_become_one(place):
    asked = [question(f"{i}") for i in range(70)]
    with Ledger(place) as ledger:
        for each in asked:
            asyncio.run(ledger.put(each, ANSWER, 1))
    assert names(place) == [f"0/000000{i}.jsonl" for i in range(65, 72)]
    with Ledger(beside(place, 3)) as ledger:

        async def kept():
            return [await ledger.get(each.key) for each in asked]

        assert None not in asyncio.run(kept())


def test_what_is_gathered_while_it_is_read_is_not_missed(place):
    with Ledger(place) as ledger:
        for i in range(63):
            asyncio.run(ledger.put(question(f"{i}"), ANSWER, 1))
        reading = Segments(beside(place, 1)).read()
        found = next(reading)
        asyncio.run(ledger.put(question("63"), ANSWER, 1))
        found += [row for rows in reading for row in rows]
    assert {row.completion for row in found} == {f"{i}" for i in range(64)}


def test_no_answer_is_used_before_it_is_safe(gcs):
    """The judge's verdicts wait for the store; what it refuses is never used, and nothing else is bought."""
    gcs.fault = lambda method, target: 403 if method == "POST" else None
    with ScriptedJudge().open("gs://bucket/x/ledger/0") as judge:
        pending = judge.submit(completions(["a", "b"]))
        with pytest.raises(DarError, match=r"the ledger gs://bucket/x/ledger/0 cannot be written: .*roles/.*no unrec"):
            pending.result()
    assert gcs.buckets["bucket"] == {}


def test_a_paid_answer_is_not_paid_again(place):
    asked = completions(["the cat sat", "a dog ran", "the cat sat"])
    for annotations in (2, 0):
        with ScriptedJudge().open(place) as judge:
            verdicts = judge.submit(asked).result()
            assert judge.totals.annotations == annotations
            assert [verdict.status for verdict in verdicts] == ["ok"] * 3


def test_two_runs_in_one_folder_are_noticed(place):
    with Ledger(place) as one, Ledger(place) as other:
        asyncio.run(one.put(question("a"), ANSWER, 1))
        with pytest.raises(DarError, match="another run has written it"):
            asyncio.run(other.put(question("b"), ANSWER, 1))


def test_a_store_that_is_away_for_good_is_said(gcs, monkeypatch):
    monkeypatch.setattr(objects, "PATIENT", BRIEF)
    with Ledger("gs://bucket/x/ledger/0") as ledger:
        gcs.fault = lambda method, target: 503
        with pytest.raises(
            DarError, match=r"cannot be written: gs://bucket/x/ledger/0/00000001\.jsonl: .*check the net"
        ):
            asyncio.run(ledger.put(question(), ANSWER, 1))


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"key": "a"}', b'"text"'])
def test_a_damaged_segment_is_said(place, content):
    Objects(place).create("00000001.jsonl", content).finish()
    with pytest.raises(SettingError, match=r"the ledger's .*/ledger/0/00000001\.jsonl is damaged: .*; delete it"):
        Ledger(place)


def test_what_was_used_outlives_a_kill(place):
    with subprocess.Popen([sys.executable, "-c", KILLED, place], stdout=subprocess.PIPE, text=True) as process:
        used = [int(process.stdout.readline()) for _ in range(80)]
        process.kill()
        used += [int(line) for line in process.stdout.read().splitlines()]
    with Ledger(place) as ledger:

        async def kept():
            return [await ledger.get(question(f"{i}").key) for i in used]

        assert None not in asyncio.run(kept())
