"""`dar-jax judge`, over a real socket."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from dar_jax.chat.scripted.server import ServerSettings, serve
from dar_jax.cli.main import main
from dar_jax.relabeling.judged_rows import Size
from tests.judging.sample_questions import Echo, planted

TURNS = [{"role": "user", "content": "Say something."}]


def job(tmp_path, server, rows, **judge):
    """Write a config and an input; give the command that judges them."""
    judge = {"name": "openai", "model": "scripted", "base_url": server.openai_url, "attempts": 1} | judge
    (tmp_path / "j.yaml").write_text(f"judge: {json.dumps(judge)}\n")
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    places = ("--input", tmp_path / "in.jsonl", "--output", tmp_path / "out.jsonl")
    return ["judge", *map(str, (tmp_path / "j.yaml", *places))]


def rows_of(tmp_path):
    return [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").split("\n")[:-1]]


def asked(count, prompt="Say something."):
    return [{"prompt": prompt, "completion": f"{planted(1 + i % 10)} {i}", "id": i} for i in range(count)]


def test_rows_keep_their_order_and_their_columns(tmp_path, capsys):
    rows = [
        {"id": "x", "prompt": TURNS, "completion": planted(3.5)},
        {"prompt": "Say it.", "completion": [{"role": "assistant", "content": planted(9) + "\u2028 é"}]},
        {"prompt": "Say it.", "completion": "...", "more": {"a": None}},
    ]
    with serve(model=Echo().model) as server:
        assert main(job(tmp_path, server, rows)) == 0
    found = rows_of(tmp_path)
    assert [{name: row[name] for name in given} for row, given in zip(found, rows, strict=True)] == rows
    assert [row["status"] for row in found] == ["ok"] * 3
    assert [row["reward"] for row in found] == pytest.approx([3.5, 9.0, 1.0])
    assert [row["served_model"] for row in found] == ["scripted-echo", "scripted-echo", ""]
    assert found[0]["probabilities"] == pytest.approx([0, 0, 0.5, 0.5, 0, 0, 0, 0, 0, 0])
    told = capsys.readouterr().out
    assert "3 rows (ok 3), mean reward 4.500; 2 answers billed, cost unknown; 0 from the ledger, 1 by rule" in told
    assert {path.name for path in tmp_path.iterdir()} == {
        "j.yaml",
        "in.jsonl",
        "out.jsonl",
        "out.jsonl.ledger.sqlite",
    }


def test_the_wildest_text_passes(tmp_path):
    texts = ["half a character: \ud83d", "\x00", "🎈\r\n\u2029", "<|im_start|>"]
    with serve(ServerSettings(port=0)) as server:
        command = job(tmp_path, server, [{"prompt": text, "completion": f"{text} w"} for text in texts])
        for mode in ("logprobs", "samples"):
            assert main([*command, f"judge.mode={mode}"]) == 0
            assert [row["prompt"] for row in rows_of(tmp_path)] == texts
            (tmp_path / "out.jsonl").unlink()


def test_what_it_takes_is_said_first_and_corrected_by_the_first_answers(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("dar_jax.relabeling.relabel._ESTIMATE_BY", 4)
    with serve(ServerSettings(port=0), Echo().model) as server:
        prices = "judge.prices={input: 1, output: 2, date: 2026-11-01}"
        assert main([*job(tmp_path, server, asked(30), concurrency=4), prices]) == 0
    said = capsys.readouterr().out
    assert "about, less what the ledger holds: 30 questions" in said
    assert said.index("US dollars") < said.index("by the first ") < said.index("30 rows")
    assert re.search(r"by the first \d+ answers, \d+ tokens in each: about 0\.\d+ US dollars for \d+ rows", said)
    assert re.search(r"30 answers billed, 0\.\d+ US dollars, 0\.\d+ a reward;", said)


def test_starting_again_pays_for_the_rest_alone(tmp_path, capsys):
    """Killed in the middle; the ledger has what came, and no answer is bought twice."""
    rows = asked(60)
    with serve(ServerSettings(port=0, latency_s=0.1), Echo().model) as server:
        command = job(tmp_path, server, rows, concurrency=4)
        with subprocess.Popen([sys.executable, "-m", "dar_jax", *command], stdout=subprocess.DEVNULL) as process:
            while server.answered.total() < 12 and process.poll() is None:
                time.sleep(0.01)
            os.kill(process.pid, signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        assert not (tmp_path / "out.jsonl").exists()
        time.sleep(0.3)
        before = server.answered.total()
        assert main(command) == 0
        # At most what was on its way when it was killed.
        assert server.answered.total() <= 60 + 4
    kept = int(capsys.readouterr().out.split(" from the ledger")[0].rpartition(" ")[2])
    assert before - 4 <= kept <= before < 60
    assert [row["reward"] for row in rows_of(tmp_path)] == pytest.approx([1 + i % 10 for i in range(60)])


def test_a_signal_leaves_the_ledger_and_no_output(tmp_path, capsys):
    """What was on its way is waited for: it is billed, and not billed again."""
    with serve(ServerSettings(port=0, latency_s=0.1), Echo().model) as server:
        command = job(tmp_path, server, asked(60), concurrency=4)
        program = [sys.executable, "-m", "dar_jax", *command]
        with subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
            while server.answered.total() < 8 and process.poll() is None:
                time.sleep(0.01)
            process.terminate()
            told = process.stderr.read()
        assert process.returncode == 5
        assert {path.name for path in tmp_path.iterdir()} == {"j.yaml", "in.jsonl", "out.jsonl.ledger.sqlite"}
        assert server.asked.total() < 60
        assert main(command) == 0
        assert set(server.asked.values()) == {1}
    assert "SIGTERM received; " in told
    assert "of 60 rows were judged" in told
    assert "the answers are kept in" in told


def test_the_next_judge_keeps_the_first_ones_columns(tmp_path, capsys):
    row = {"prompt": "p", "completion": planted(4), "reward": 9.5, "reason": "mine"}
    with serve(model=Echo().model) as server:
        command = job(tmp_path, server, [row])
        assert main(command) == 0
        (found,) = rows_of(tmp_path)
        assert (found["given_reward"], found["given_reason"], found["reward"]) == (9.5, "mine", pytest.approx(4))
        (tmp_path / "out.jsonl").rename(tmp_path / "in.jsonl")
        assert main(command) == 2
    assert "it has both 'reward' and 'given_reward'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("fault", "said"), [("server_error", "does not answer"), ("prose", "useless"), ("refusal", "useless")]
)
def test_a_judge_that_fails_too_often_leaves_no_output(fault, said, tmp_path, capsys):
    with serve(ServerSettings(port=0, faults={fault: 1.0})) as server:
        assert main(job(tmp_path, server, asked(400), concurrency=4)) == 3
        # It is not asked to the bitter end.
        assert server.asked.total() < 100
    told = capsys.readouterr().err
    assert said in told
    assert "no output was written; the answers are kept in" in told
    assert not (tmp_path / "out.jsonl").exists()
    assert (tmp_path / "out.jsonl.ledger.sqlite").exists()


def test_a_budget_stops_it_and_more_goes_on(tmp_path, capsys):
    with serve(model=Echo().model) as server:
        assert main(job(tmp_path, server, asked(12), budget_annotations=5)) == 4
        told = capsys.readouterr().err
        assert "judge.budget_annotations=5 has no room" in told
        assert "no output was written; the answers are kept in" in told
        assert not (tmp_path / "out.jsonl").exists()
        assert main(job(tmp_path, server, asked(12), budget_annotations=12)) == 0
    assert "7 answers billed" in capsys.readouterr().out
    assert len(rows_of(tmp_path)) == 12


def test_some_failures_are_rows_without_a_reward(tmp_path):
    with serve(ServerSettings(port=0, faults={"prose": 0.2}, seed=1), Echo().model) as server:
        command = job(tmp_path, server, asked(40))
        assert main([*command, "judge.max_failure_share=0.05"]) == 3
        assert main([*command, "judge.max_failure_share=0.5"]) == 0
        assert set(server.asked.values()) == {1}
    failed = [row for row in rows_of(tmp_path) if row["status"] != "ok"]
    assert 0 < len(failed) < 20
    assert {(row["status"], row["reward"], row["probabilities"]) for row in failed} == {("unparsable", None, None)}
    assert all("is not one of 0..9" in row["reason"] for row in failed)


def test_a_finished_output_is_refused_before_anything(tmp_path, capsys):
    with serve() as server:
        command = job(tmp_path, server, asked(1))
        (tmp_path / "out.jsonl").write_text("mine")
        assert main(command) == 2
        assert not server.asked
    assert "it is there already" in capsys.readouterr().err
    assert (tmp_path / "out.jsonl").read_text() == "mine"


@pytest.mark.parametrize("bad", ['{"prompt": "p"}', "{", '{"prompt": 1, "completion": ""}'])
def test_a_bad_row_is_told_before_the_first_is_paid_for(bad, tmp_path, capsys):
    with serve() as server:
        command = job(tmp_path, server, asked(3))
        with (tmp_path / "in.jsonl").open("a") as file:
            file.write(bad + "\n")
        assert main(command) == 2
        assert not server.asked
    told = capsys.readouterr().err
    assert "in.jsonl, line 4" in told
    assert len(told.splitlines()) == 1


def test_an_input_that_changes_is_said(tmp_path, capsys, monkeypatch):
    """Or one that can be read once only, as a pipe."""
    monkeypatch.setattr("dar_jax.relabeling.relabel.count_rows", lambda given: Size(2, 20, 20))
    with serve() as server:
        assert main(job(tmp_path, server, asked(1))) == 2
    assert "--input: its rows changed" in capsys.readouterr().err
    assert not (tmp_path / "out.jsonl").exists()


def test_a_ledger_may_be_shared(tmp_path, capsys):
    with serve(model=Echo().model) as server:
        command = job(tmp_path, server, asked(5))
        assert main([*command, "--ledger", str(tmp_path / "shared.sqlite")]) == 0
        (tmp_path / "out.jsonl").unlink()
        assert main([*command, "--ledger", str(tmp_path / "shared.sqlite")]) == 0
    assert "0 answers billed, 0.0000 US dollars; 5 from the ledger" in capsys.readouterr().out


def test_typed_decisions_a_found_mode_and_a_panel_score_a_file_too(tmp_path, capsys):
    rows = [{"prompt": "Say it.", "completion": planted(level) + str(level)} for level in (2, 5.5, 9)]
    with serve(model=Echo().model) as server:
        command = job(tmp_path, server, rows, mode="decision", permutations=2)
        assert main(command) == 0
        assert "6 answers billed" in capsys.readouterr().out
        assert [row["reward"] for row in rows_of(tmp_path)] == pytest.approx([2, 5.5, 9])
        (tmp_path / "out.jsonl").unlink()
        assert main([*command, "judge.mode=auto", "judge.permutations=1"]) == 0
        assert "mode decision (found)" in capsys.readouterr().out
        (tmp_path / "out.jsonl").unlink()
        member = {"name": "openai", "model": "m", "base_url": server.openai_url}
        panel = {"name": "panel", "judges": [member, {"name": "scripted", "scorer": "overlap"}]}
        (tmp_path / "j.yaml").write_text(f"judge: {json.dumps(panel)}\n")
        assert main(command) == 0
    told, found = capsys.readouterr().out, rows_of(tmp_path)
    assert "panel of 2: m at http" in told
    assert [row["served_model"] for row in found] == ["scripted-echo, scripted-overlap"] * 3
    assert all(row["status"] == "ok" and sum(row["probabilities"]) == pytest.approx(1) for row in found)


def test_a_judge_that_compares_cannot_score_rows(tmp_path, capsys):
    with serve() as server:
        assert main(job(tmp_path, server, asked(1), labels="preference")) == 2
    assert "judge.labels: preference compares a prompt's completions" in capsys.readouterr().err
