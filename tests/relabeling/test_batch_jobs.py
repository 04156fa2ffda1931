"""`dar-jax judge --batch`, over a real socket, through the real SDK."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from dar_jax.chat.scripted.batch_server import BatchBehaviour
from dar_jax.chat.scripted.server import ServerSettings, serve
from dar_jax.cli.main import main
from dar_jax.relabeling import batch_jobs
from tests.judging.sample_questions import Echo
from tests.relabeling.test_relabel import asked, job, rows_of

STATE = "out.jsonl.ledger.sqlite.batches.json"


def behaving(**batch):
    return ServerSettings(port=0, batch=BatchBehaviour(**batch))


def until_submitted(tmp_path, process):
    while not (tmp_path / STATE).exists() or '"id":"batch_0"' not in (tmp_path / STATE).read_text():
        assert process.poll() is None
        time.sleep(0.02)


@pytest.mark.parametrize("mode", ["single", "samples", "logprobs"])
def test_every_row_gets_its_own_verdict_though_answers_come_in_another_order(mode, tmp_path, capsys):
    with serve(behaving(), Echo().model) as server:
        assert main([*job(tmp_path, server, asked(30), mode=mode), "--batch"]) == 0
        assert server.batches.created == 1
        assert set(server.asked.values()) == {1}
    assert [row["reward"] for row in rows_of(tmp_path)] == pytest.approx([1 + i % 10 for i in range(30)])
    told = capsys.readouterr().out
    assert "30 questions that the ledger does not hold; about cost unknown" in told
    assert "by batch: 30 answers billed, cost unknown" in told
    assert "30 rows (ok 30), mean reward 5.500; 30 answers billed, cost unknown; 0 from the ledger" in told
    assert not (tmp_path / STATE).exists()


def test_what_the_ledger_holds_is_not_submitted_and_what_needs_no_judge_neither(tmp_path, capsys):
    rows = [*asked(6), {"prompt": "p", "completion": "..."}]
    with serve(behaving(), Echo().model) as server:
        assert main(job(tmp_path, server, rows[:4])) == 0
        (tmp_path / "out.jsonl").unlink()
        assert main([*job(tmp_path, server, rows), "--batch"]) == 0
        assert server.asked.total() == 6
        # With nothing left to ask, no batch is made.
        (tmp_path / "out.jsonl").unlink()
        assert main([*job(tmp_path, server, rows), "--batch"]) == 0
        assert server.batches.created == 1
    assert "2 questions that the ledger does not hold" in capsys.readouterr().out


def test_a_killed_wait_goes_on_with_the_same_batch(tmp_path):
    with serve(behaving(seconds=1.5), Echo().model) as server:
        command = [*job(tmp_path, server, asked(12)), "--batch"]
        with subprocess.Popen([sys.executable, "-m", "dar_jax", *command], stdout=subprocess.DEVNULL) as process:
            until_submitted(tmp_path, process)
            os.kill(process.pid, signal.SIGKILL)
        assert main(command) == 0
        assert server.batches.created == 1
        assert set(server.asked.values()) == {1}
    assert [row["reward"] for row in rows_of(tmp_path)] == pytest.approx([1 + i % 10 for i in range(12)])


def test_a_batch_made_by_a_process_killed_before_it_knew_the_id_is_found_by_its_mark(tmp_path, monkeypatch):
    kept, write = [], batch_jobs.write_state

    def remembering(place, state):
        write(place, state)
        kept.append(place.read_text() if place.exists() else "")

    monkeypatch.setattr(batch_jobs, "write_state", remembering)
    with serve(behaving(), Echo().model) as server:
        command = [*job(tmp_path, server, asked(5)), "--batch"]
        assert main(command) == 0
        # As it was when the batch was made: a mark, no id, no answers.
        assert json.loads(kept[0])["batches"][0]["id"] is None
        for name in ("out.jsonl", "out.jsonl.ledger.sqlite"):
            (tmp_path / name).unlink()
        (tmp_path / STATE).write_text(kept[0])
        assert main(command) == 0
        assert server.batches.created == 1


def test_a_mark_whose_batch_was_never_made_is_forgotten(tmp_path):
    with serve(behaving(), Echo().model) as server:
        command = [*job(tmp_path, server, asked(2)), "--batch"]
        state = {"address": server.openai_url, "batches": [{"mark": "m", "keys": [], "id": None}]}
        (tmp_path / STATE).write_text(json.dumps(state))
        assert main(command) == 0
        assert server.batches.created == 1


def test_a_signal_leaves_the_batch_under_way(tmp_path):
    with serve(behaving(seconds=600), Echo().model) as server:
        command = [*job(tmp_path, server, asked(3)), "--batch"]
        program = [sys.executable, "-m", "dar_jax", *command]
        with subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
            until_submitted(tmp_path, process)
            process.terminate()
            told = process.stderr.read()
    assert process.returncode == 5
    assert "SIGTERM received; the batches go on" in told
    assert (tmp_path / STATE).exists()
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("missing", "batch batch_0 completed, no answer in it"),
        ("error", "server_error: something broke"),
        ("foreign", "batch batch_0 completed, no answer in it"),
    ],
)
def test_a_row_without_an_answer_fails_alone_and_is_never_a_number(fault, said, tmp_path):
    with serve(behaving(faults={fault: 0.2}), Echo().model) as server:
        # The draws are by the questions' keys, and those by the address.
        command = [*job(tmp_path, server, asked(40), max_failure_share=0.5, endpoint="mine"), "--batch"]
        assert main(command) == 0
        # It was not asked again, at the whole price.
        assert set(server.asked.values()) == {1}
    failed = [row for row in rows_of(tmp_path) if row["status"] != "ok"]
    assert 0 < len(failed) < 20
    assert {(row["status"], row["reward"], row["reason"]) for row in failed} == {("failed", None, said)}
    good = [row for row in rows_of(tmp_path) if row["status"] == "ok"]
    assert [row["reward"] for row in good] == pytest.approx([1 + row["id"] % 10 for row in good])


@pytest.mark.parametrize("ends", ["expired", "cancelled"])
def test_of_a_batch_that_ends_early_the_answers_are_kept_and_the_rest_is_asked_by_the_next(ends, tmp_path, capsys):
    with serve(behaving(ends=ends), Echo().model) as server:
        assert main([*job(tmp_path, server, asked(8), endpoint="mine"), "--batch"]) == 3
        assert server.asked.total() == 4
    told = capsys.readouterr()
    assert "by batch: 4 answers billed" in told.out
    assert f"batch_{ends}" in told.err
    assert "no output was written; the answers are kept" in told.err
    with serve(behaving(), Echo().model) as server:
        # At another address, it is the same judge by its name in the ledger.
        assert main([*job(tmp_path, server, asked(8), endpoint="mine"), "--batch"]) == 0
        assert server.asked.total() == 4
    assert [row["reward"] for row in rows_of(tmp_path)] == pytest.approx([1 + i % 10 for i in range(8)])


def test_a_batch_that_the_server_finds_invalid_is_said(tmp_path, capsys):
    with serve(behaving(ends="failed")) as server:
        assert main([*job(tmp_path, server, asked(2)), "--batch"]) == 3
        assert not server.asked
    told = capsys.readouterr().err
    assert "batch batch_0 failed: the file is not valid" in told
    assert len(told.splitlines()) == 1
    assert not (tmp_path / STATE).exists()


def test_a_server_without_batches_is_said(tmp_path, capsys):
    with serve() as server:
        assert main([*job(tmp_path, server, asked(2), base_url=f"{server.url}/v2"), "--batch"]) == 3
    told = capsys.readouterr().err
    assert "the batch was not taken: HTTP 404" in told
    assert len(told.splitlines()) == 1


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        ({"budget_annotations": 11}, "judge.budget_annotations=11 has no room for the batch: 0 spent"),
        (
            {"budget_usd": 0.0001, "prices": {"input": 1.0, "output": 1.0, "date": "2026-11"}},
            "judge.budget_usd=0.0001 has no room for the batch: 0 spent",
        ),
    ],
)
def test_a_budget_is_kept_before_anything_is_submitted(budget, said, tmp_path, capsys):
    with serve(behaving(), Echo().model) as server:
        assert main([*job(tmp_path, server, asked(12), **budget), "--batch"]) == 4
        assert not server.batches.created
        told = capsys.readouterr().err
        assert said in told
        assert len(told.splitlines()) == 1
        enough = {name: value * 10_000 if name.startswith("budget") else value for name, value in budget.items()}
        assert main([*job(tmp_path, server, asked(12), **enough), "--batch"]) == 0


@pytest.mark.parametrize(
    ("judge", "said"),
    [
        ({"mode": "decision"}, "judge.mode is decision"),
        ({"mode": "auto"}, "judge.mode is auto"),
        ({"reasoning": True}, "judge.reasoning asks"),
        ({"exact_digits": True}, "judge.exact_digits is vLLM's"),
    ],
)
def test_what_is_no_single_chat_request_is_refused(judge, said, tmp_path, capsys):
    with serve() as server:
        assert main([*job(tmp_path, server, asked(2), **judge), "--batch"]) == 2
        assert not server.asked
    told = capsys.readouterr().err
    assert f"--batch: {said}" in told
    assert len(told.splitlines()) == 1


def test_another_wire_is_refused(tmp_path, capsys):
    with serve() as server:
        command = job(tmp_path, server, asked(2))
        (tmp_path / "j.yaml").write_text("judge: {name: scripted, scorer: overlap}\n")
        assert main([*command, "--batch"]) == 2
    assert "--batch: judge scripted has none" in capsys.readouterr().err


def test_batches_of_other_questions_are_not_thrown_away(tmp_path, capsys):
    with serve(behaving(), Echo().model) as server:
        command = [*job(tmp_path, server, asked(2)), "--batch"]
        state = {"address": server.openai_url, "batches": [{"mark": "m", "keys": ["of another input"], "id": "b"}]}
        (tmp_path / STATE).write_text(json.dumps(state))
        assert main(command) == 2
        assert not server.batches.created
        assert "has batches under way of other questions" in capsys.readouterr().err
        (tmp_path / STATE).write_text(json.dumps(state | {"address": "http://127.0.0.1:1/v1"}))
        assert main(command) == 2
        assert "judge.base_url" in capsys.readouterr().err
        (tmp_path / STATE).write_text("{")
        assert main(command) == 2
        assert "give them up by removing it" in capsys.readouterr().err


def test_many_questions_are_several_batches(tmp_path, monkeypatch):
    monkeypatch.setattr(batch_jobs, "MOST_REQUESTS", 4)
    with serve(behaving(), Echo().model) as server:
        assert main([*job(tmp_path, server, asked(10)), "--batch"]) == 0
        assert server.batches.created == 3
    assert [row["reward"] for row in rows_of(tmp_path)] == pytest.approx([1 + i % 10 for i in range(10)])


def test_a_row_that_cannot_be_read_is_bought_once(tmp_path, capsys):
    settings = ServerSettings(port=0, faults={"unreadable_reply": 0.1, "usage_null": 0.2}, seed=2)
    with serve(settings, Echo().model) as server:
        command = [*job(tmp_path, server, asked(30)), "--batch"]
        assert main(command) == 0
        (tmp_path / "out.jsonl").unlink()
        assert main(command) == 0
        assert server.batches.created == 1
        assert set(server.asked.values()) == {1}
    told = capsys.readouterr().out
    assert "by batch: 30 answers billed" in told
    assert "estimated, whose usage the server did not report" in told
    unread = [row for row in rows_of(tmp_path) if row["status"] == "unparsable"]
    assert unread
    assert all("choices.0.message.content" in row["reason"] for row in unread)
