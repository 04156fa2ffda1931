"""Whole runs on two hosts of two devices each, against the same run on one host of four."""

import json
import shutil
import signal
import sqlite3
import time

import jax
import numpy as np
import pytest

from dar_jax import models
from dar_jax.checkpoints import huggingface
from dar_jax.config.config_file import parse_config
from dar_jax.runlog import RemoteFolder, RunFolder
from dar_jax.training import resume, train
from tests.host_work import between_updates
from tests.multihost.processes import TRAIN, start, until
from tests.nano import AFTER_STEPS, BILLS, CLOCKS, write_policy
from tests.planted import assert_first_step_as_planted
from tests.small_tokenizers import hf


def on_two(config, folder, *overrides, where=None, **settings):
    """Start the run on two hosts."""
    return start(TRAIN, [str(config), *overrides, "--run-dir", where or str(folder / "run")], folder, **settings)


def again_on_two(folder, **settings):
    return start(TRAIN, ["--resume", str(folder / "run")], folder / "again", **settings)


def assert_same(run, other, ignored=CLOCKS):
    """Compare what two runs measured, said and were told: to the tolerance of one device against eight."""
    for log in ("metrics", "completions", "evaluations"):
        rows, others = run.read(log), other.read(log)
        assert len(rows) == len(others) > 0
        for row, expected in zip(rows, others, strict=True):
            assert _lasting_keys(row, ignored) == _lasting_keys(expected, ignored)
            for key, value in expected.items():
                if isinstance(value, float) and not key.startswith(ignored):
                    np.testing.assert_allclose(row[key], value, rtol=1e-5, atol=1e-5, err_msg=key)
                elif not key.startswith(ignored):
                    assert row[key] == value, key


def _lasting_keys(row, ignored):
    return {key for key in row if not key.startswith(ignored)}


def answers(file):
    with sqlite3.connect(file) as ledger:
        return {key for (key,) in ledger.execute("select key from answers")}


def reached(folder, step):
    """Whether a run has logged a step."""
    file = folder / "run" / "metrics.jsonl"
    return file.exists() and f'"step": {step},' in file.read_text()


@pytest.mark.slow
def test_hosts_exchange_once_an_update_and_fetch_nothing_behind_it(config, tmp_path):
    hosts = on_two(config, tmp_path, AFTER_STEPS, "evaluation=null", HOST_WORK=str(tmp_path / "events-{}.json"))
    assert hosts.wait() == [0, 0], hosts.said(0) + hosts.said(1)
    for host in range(2):
        events = json.loads((tmp_path / f"events-{host}.json").read_text())
        for step in range(2):
            assert between_updates(events, step, 4) == ["update", "exchange"] * 3


@pytest.mark.slow
def test_two_hosts_train_as_one(config, alone, tmp_path):
    hosts = on_two(config, tmp_path)
    assert hosts.wait() == [0, 0], hosts.said(0) + hosts.said(1)
    run = RunFolder(tmp_path / "run")
    # A text that is said twice is asked about twice where its rows lie on two hosts.
    assert_same(run, alone, CLOCKS + BILLS)
    assert [row["judge/canary_margin"] for row in run.read("metrics")] == pytest.approx([6.21 - 7.13] * 2, abs=0.01)
    # Rewards, advantages and weights of both hosts' rows, those whose judge failed among them.
    assert_first_step_as_planted(run.read("completions"))
    own, other = (answers(run.path / name) for name in ("ledger.sqlite", "ledger-1.sqlite"))
    assert own
    assert other
    # No host asked for the other's rows; what is said twice in a batch may have been asked by both.
    assert own | other == answers(alone.ledger)
    assert run.read("metrics")[0]["judge/billed_calls"] < len(own) + len(other)
    assert run.read("metrics")[-1]["judge/spent_annotations"] <= len(own) + len(other)
    assert "dar-jax" in hosts.last(0)
    assert "loss" not in hosts.said(1)


def test_another_config_on_one_host_ends_all(config, tmp_path):
    common = [str(config), "--run-dir", str(tmp_path / "run")]
    hosts = start(TRAIN, [common, [*common, "steps=3", "seed=1"]], tmp_path)
    assert hosts.wait(60) == [2, 2]
    for host in (0, 1):
        assert "seed is 1 on host 1 (" in hosts.last(host)
        assert ", 0 on host 0 (" in hosts.last(host)
        assert "(and 1 more)" in hosts.last(host)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_sigterm_on_one_host_saves_all_and_any_number_goes_on(config, alone, tmp_path):
    hosts = on_two(config, tmp_path)
    until(lambda: reached(tmp_path, 1), hosts)
    hosts.processes[1].terminate()
    assert hosts.wait(60) == [5, 5]
    for host in (0, 1):
        assert "SIGTERM received by host 1 (" in hosts.last(host)
    paid = [answers(tmp_path / "run" / name) for name in ("ledger.sqlite", "ledger-1.sqlite")]
    shutil.copytree(tmp_path / "run", tmp_path / "one")
    assert again_on_two(tmp_path).wait() == [0, 0]
    assert_same(RunFolder(tmp_path / "run"), alone, CLOCKS + BILLS)
    resume(tmp_path / "one", ["mesh.devices=4", "display.mode=quiet"])
    assert_same(RunFolder(tmp_path / "one"), alone, CLOCKS + BILLS)
    # What the second host had paid for is not asked again by the first.
    assert not answers(tmp_path / "one" / "ledger.sqlite") & paid[1] - paid[0]


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_host_ends_the_run_which_goes_on_later(config, alone, tmp_path, victim):
    hosts = on_two(config, tmp_path, lost_after_s=5)
    until(lambda: reached(tmp_path, 1), hosts)
    hosts.processes[victim].kill()
    began = time.monotonic()
    statuses = hosts.wait(60)
    assert time.monotonic() - began < 5 + 10
    assert (statuses[victim], statuses[1 - victim]) == (-signal.SIGKILL, 6)
    # Not always its last line: jax's own threads may still say that the connection broke.
    assert f"host {victim} (" in hosts.said(1 - victim)
    resume(tmp_path / "run", ["mesh.devices=4", "display.mode=quiet"])
    assert_same(RunFolder(tmp_path / "run"), alone, CLOCKS + BILLS)


@pytest.mark.slow
def test_one_hosts_failing_judge_stops_all(config, tmp_path):
    """Half of the judgements fail, which is more than may: both hosts see it, save and leave."""
    hosts = on_two(config, tmp_path, "judge.scorer=fails-on-host-1", "judge.max_failure_share=0.2", "evaluation=null")
    assert hosts.wait() == [3, 3]
    for host in (0, 1):
        assert "of 32 judgements gave no reward" in hosts.said(host)
        assert "this host's judge refuses" in hosts.said(host)
        assert "--resume" in hosts.last(host)
    assert (tmp_path / "run" / "checkpoints" / "0").is_dir()
    assert again_on_two(tmp_path, HEALED="1").wait() == [0, 0]
    assert [row["judge/failed"] for row in RunFolder(tmp_path / "run").read("metrics")] == [0, 0]


@pytest.mark.slow
def test_a_spent_budget_on_one_host_stops_all(config, alone, tmp_path):
    """Each has half of what is left; together they never pay more, and with more the run is the one on one host."""
    first, second = (row["judge/spent_annotations"] for row in alone.read("metrics"))
    limit = (first + second) // 2
    hosts = on_two(config, tmp_path, f"judge.budget_annotations={limit}")
    assert hosts.wait() == [4, 4], hosts.said(0) + hosts.said(1)
    for host in (0, 1):
        assert f"judge.budget_annotations={limit} has no room for this question" in hosts.said(host)
        assert f"--resume {tmp_path}/run judge.budget_annotations=..." in hosts.last(host)
    assert [row["step"] for row in RunFolder(tmp_path / "run").read("metrics")] == [1]
    ledgers = [tmp_path / "run" / name for name in ("ledger.sqlite", "ledger-1.sqlite")]
    assert sum(len(answers(each)) for each in ledgers) <= limit
    again = start(TRAIN, ["--resume", str(tmp_path / "run"), "judge.budget_annotations=1000"], tmp_path / "again")
    assert again.wait() == [0, 0], again.said(0) + again.said(1)
    run = RunFolder(tmp_path / "run")
    assert_same(run, alone, CLOCKS + BILLS)
    assert run.read("metrics")[-1]["judge/spent_annotations"] <= sum(len(answers(each)) for each in ledgers)


@pytest.mark.slow
def test_adapters_on_a_model_that_is_read_in_parts_into_a_run_folder_under_a_url(config, tmp_path):
    """Every parameter is split across both hosts, every prompt lies on both, and the run's files are objects."""
    drawn = write_policy(tmp_path / "drawn")
    decoder, start_at = huggingface.read_config(drawn), tmp_path / "start"
    huggingface.save(start_at, decoder, jax.jit(models.init, static_argnums=0)(decoder, jax.random.key(0)))
    hf().save_pretrained(start_at)
    adapters = f"policy={{path: {start_at}, weights: pretrained, lora: {{rank: 2, alpha: 8}}}}"
    hosts = on_two(config, tmp_path, adapters, "mesh.tensor=4", "steps=1", where=f"file://{tmp_path}/run")
    assert hosts.wait() == [0, 0], hosts.said(0) + hosts.said(1)
    alone = [adapters, "mesh={devices: 4, tensor: 4}", "steps=1", "display.mode=quiet"]
    train(parse_config(config.read_text(), alone, where="run.yaml"), tmp_path / "alone")
    assert_same(RemoteFolder(f"file://{tmp_path}/run"), RunFolder(tmp_path / "alone"))
    assert all(list((tmp_path / "run" / "ledger" / process).iterdir()) for process in "01")


@pytest.mark.slow
def test_a_collective_from_the_judges_thread_ends_the_run(config, tmp_path):
    """Trap sglang-jax, marin#3826, in a whole run: refused at once, where it would hang or mix up two programs."""
    hosts = on_two(config, tmp_path, "judge.scorer=launches-a-collective")
    assert all(status not in (0, 3, 5) for status in hosts.wait(120))
    assert any("thread" in hosts.said(host) for host in (0, 1))
