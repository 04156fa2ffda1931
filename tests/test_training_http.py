"""Whole runs against a judge behind a real loopback socket, by the real SDK."""

import contextlib
import os
import signal
import sqlite3
import threading
import time

import pytest

from dar_jax.chat.scripted.server import ServerSettings, serve
from dar_jax.cli.main import main
from dar_jax.config.config_file import parse_config
from dar_jax.errors import Interrupted, JudgeStopped
from dar_jax.runlog import RunFolder
from dar_jax.training import resume, train
from tests.nano import write_policy, write_prompts


@pytest.fixture(scope="module")
def config_text(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nano")
    policy, prompts = write_policy(folder / "policy"), write_prompts(folder / "prompts.jsonl")
    return f"""
    policy: {{path: {policy}, weights: random}}
    data: {{path: {prompts}}}
    judge: {{name: openai, model: scripted-overlap, base_url: "http://127.0.0.1:1/v1", concurrency: 2}}
    steps: 2
    prompts_per_step: 8
    sampling: {{max_prompt_length: 16, max_completion_length: 8}}
    learning: {{compute_dtype: float32, optimizer: {{learning_rate: 1e-2, warmup_updates: 1}}}}
    mesh: {{devices: 1}}
    display: {{mode: quiet}}
    """


def _train(text, path, *overrides):
    train(parse_config(text, overrides, where="run.yaml"), path)
    return RunFolder(path)


def _rewards(folder):
    return [(row["completion"], row["reward"], row["weight"]) for row in folder.read("completions")]


def _stored(folder):
    with contextlib.closing(sqlite3.connect(folder.ledger)) as ledger:
        return ledger.execute("select count(*) from answers").fetchone()[0]


@pytest.mark.slow
def test_a_server_that_dies_in_mid_step(config_text, tmp_path):
    """It ends the run with a clear message and a checkpoint; a resume pays for nothing again."""
    whole = _train(config_text, tmp_path / "whole", "judge={name: scripted, scorer: overlap, concurrency: 2}")
    impatient = ("judge.attempts=2", "judge.deadline_s=2")
    stack = contextlib.ExitStack()
    first = stack.enter_context(serve(ServerSettings(port=0, latency_s=0.03)))
    port = int(first.url.rsplit(":", 1)[1])

    def die_in_step_2():
        while "metrics.jsonl" not in {each.name for each in (tmp_path / "run").glob("*")}:
            time.sleep(0.002)
        before = first.answered.total()
        while first.answered.total() < before + 5:
            time.sleep(0.002)
        stack.close()

    killer = threading.Thread(target=die_in_step_2)
    killer.start()
    with pytest.raises(JudgeStopped, match=r"--resume") as caught:
        _train(config_text, tmp_path / "run", f"judge.base_url={first.openai_url}", *impatient)
    killer.join()
    assert "the judge" in str(caught.value)
    stopped = RunFolder(tmp_path / "run")
    assert [row["step"] for row in stopped.read("metrics")] == [1]
    paid = _stored(stopped)
    assert (stopped.checkpoints / "4").is_dir()
    with serve(ServerSettings(port=port)) as second:
        resume(stopped.path, [])
    assert paid + second.answered.total() == _stored(stopped)
    assert set(second.answered.values()) == {1}
    assert _rewards(stopped) == _rewards(whole)


def test_a_signal_waits_for_a_slow_judge_no_longer_than_an_attempt(config_text, tmp_path):
    """The run leaves soon, and a resume starts the step again with what was answered."""
    signalled = []
    with serve(ServerSettings(port=0, latency_s=60)) as slow:
        port = int(slow.url.rsplit(":", 1)[1])

        def preempt():
            while not slow.asked:
                time.sleep(0.01)
            signalled.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=preempt).start()
        with pytest.raises(Interrupted, match="SIGTERM"):
            _train(config_text, tmp_path / "run", f"judge.base_url={slow.openai_url}", "judge.attempt_timeout_s=2")
        assert time.monotonic() - signalled[0] < 55
    with serve(ServerSettings(port=port)):
        resume(tmp_path / "run", [])
    assert [row["step"] for row in RunFolder(tmp_path / "run").read("metrics")] == [1, 2]


def test_a_useless_judge_is_called_so(config_text, tmp_path, capsys):
    """A judge that answers prose gives no reward, teaches nothing and ends the run with status 3."""
    (tmp_path / "run.yaml").write_text(config_text)
    run = tmp_path / "run"
    with serve(ServerSettings(port=0, faults={"prose": 1.0})) as server:
        overrides = [f"judge.base_url={server.openai_url}", "judge.mode=single"]
        status = main(["train", str(tmp_path / "run.yaml"), *overrides, "--run-dir", str(run)])
    said = capsys.readouterr().err
    assert status == 3
    assert "useless" in said
    assert "unparsable" in said
    assert not (run / "metrics.jsonl").exists()


def test_what_a_server_slows_a_run_to_is_in_its_metrics(config_text, tmp_path):
    with serve(ServerSettings(port=0, requests_per_minute=1_200)) as server:
        run = _train(
            config_text,
            tmp_path / "run",
            *(f"judge.base_url={server.openai_url}", "judge.concurrency=64", "prompts_per_step=16", "steps=1"),
        )
    (row,) = run.read("metrics")
    assert server.rate_limited
    assert row["judge/failed"] == 0
    assert 0 < row["judge/slowed_to_per_minute"] < 10_000


@pytest.mark.slow
def test_a_run_survives_a_server_with_faults(config_text, tmp_path):
    """Retried faults change nothing; failed judgements are counted, never rewarded."""
    faults = {"rate_limit": 0.1, "server_error": 0.1, "reset_before": 0.05, "refusal": 0.05, "out_of_range": 0.05}
    with serve(ServerSettings(port=0, faults=faults, seed=3)) as server:
        overrides = [f"judge.base_url={server.openai_url}", "judge.max_failure_share=0.6"]
        run = _train(config_text, tmp_path / "run", *overrides)
    rows = run.read("completions")
    failed = [row for row in rows if row["verdict"] != "ok"]
    assert failed
    assert all(row["reward"] is None and row["weight"] == 0 for row in failed)
    assert all(row["reward"] is not None for row in rows if row["verdict"] == "ok")
    counted = sum(row["judge/failed"] for row in run.read("metrics"))
    assert counted == len(failed)


def test_a_key_reaches_nothing_a_run_writes_or_says(config_text, tmp_path, capfd, monkeypatch):
    """Neither a run that works nor one whose server echoes the key in its error."""
    planted = "sk-planted-0123456789"
    monkeypatch.setenv("PLANTED_KEY", planted)
    (tmp_path / "run.yaml").write_text(config_text)
    for name, faults in (("works", {}), ("fails", {"bad_key": 1.0})):
        with serve(ServerSettings(port=0, faults=faults)) as server:
            overrides = [f"judge.base_url={server.openai_url}", "judge.api_key_env=PLANTED_KEY", "display.mode=json"]
            status = main(["train", str(tmp_path / "run.yaml"), *overrides, "--run-dir", str(tmp_path / name)])
        assert status == (3 if faults else 0)
    captured = capfd.readouterr()
    assert "***" in captured.err
    assert planted not in captured.out + captured.err
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 20
    assert not [path for path in written if planted.encode() in path.read_bytes()]
