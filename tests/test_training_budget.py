"""Whole runs that may not pay their judge more: they stop before they do, and go on with more as if never stopped."""

import contextlib
import sqlite3

import pytest

from dar_jax.cli.main import main
from dar_jax.config.config_file import parse_config
from dar_jax.errors import BudgetSpent
from dar_jax.runlog import RemoteFolder, RunFolder
from dar_jax.training import resume, train
from tests.nano import lasting

PRICED = "judge.prices={input: 1.0, cached: 0.5, output: 8.0, date: 2026-11-01}"


@pytest.fixture(scope="module")
def done(config_text, tmp_path_factory):
    """The run that no limit stopped."""
    path = tmp_path_factory.mktemp("runs") / "done"
    train(parse_config(config_text, [PRICED], where="run.yaml"), path)
    return RunFolder(path)


def _lasting(folder, log):
    return lasting(folder.read(log))


def _stored(folder):
    with contextlib.closing(sqlite3.connect(folder.ledger)) as ledger:
        return ledger.execute("select count(*) from answers").fetchone()[0]


def _assert_same(run, done):
    for log in ("metrics", "completions", "evaluations"):
        assert _lasting(run, log) == _lasting(done, log)
    assert _stored(run) == _stored(done)


def test_the_spend_of_the_run_is_in_its_metrics(done):
    rows = done.read("metrics")
    for name, step in (("spent_annotations", "billed_calls"), ("spent_usd", "cost_usd")):
        spent = [row[f"judge/{name}"] for row in rows]
        assert spent == pytest.approx([sum(row[f"judge/{step}"] for row in rows[: i + 1]) for i in range(len(rows))])
    assert rows[-1]["judge/spent_usd"] > 0
    assert _stored(done) > rows[-1]["judge/spent_annotations"]


@pytest.mark.slow
def test_it_stops_with_status_4_and_goes_on_with_more(config_text, done, tmp_path, capsys):
    first, second = (row["judge/spent_annotations"] for row in done.read("metrics")[:2])
    limit, run = (first + second) // 2, RunFolder(tmp_path / "run")
    assert first < limit < second
    (tmp_path / "run.yaml").write_text(config_text)
    settings = [str(tmp_path / "run.yaml"), PRICED, f"judge.budget_annotations={limit}"]
    assert main(["train", *settings, "--run-dir", str(run.path)]) == 4
    said = capsys.readouterr().err
    assert f"judge.budget_annotations={limit} has no room for this question: {limit} spent" in said
    assert f"the run has bought {limit} answers for 0.0" in said
    assert f"dar-jax train --resume {run.path} judge.budget_annotations=..." in said
    assert _stored(run) == limit
    # Nothing was learnt from the step that lacks judgements, and nothing of it is logged.
    assert [row["step"] for row in run.read("metrics")] == [1]
    assert {row["step"] for row in run.read("completions")} == {1}
    assert max(int(each.name) for each in (run.path / "checkpoints").iterdir()) == 4
    assert main(["train", "--resume", str(run.path)]) == 4
    assert capsys.readouterr().err == said
    assert _stored(run) == limit
    assert main(["train", "--resume", str(run.path), "judge.budget_annotations=100000"]) == 0
    _assert_same(run, done)
    assert run.read("metrics")[-1]["judge/spent_annotations"] == done.read("metrics")[-1]["judge/spent_annotations"]


@pytest.mark.slow
def test_dollars_stop_a_run_likewise(config_text, done, tmp_path):
    limit, run = done.read("metrics")[0]["judge/spent_usd"] * 1.4, RunFolder(tmp_path / "run")
    with pytest.raises(BudgetSpent, match=r"judge\.budget_usd=\.\.\.$"):
        train(parse_config(config_text, [PRICED, f"judge.budget_usd={limit}"], where="run.yaml"), run.path)
    bought = _stored(run)
    assert run.read("metrics")[-1]["judge/spent_usd"] <= limit
    with pytest.raises(BudgetSpent):
        resume(run.path, [])
    assert _stored(run) == bought
    resume(run.path, [f"judge.budget_usd={100 * limit}"])
    _assert_same(run, done)


@pytest.mark.slow
def test_an_evaluation_that_found_no_room_is_caught_up_on(config_text, done, tmp_path):
    limit, run = done.read("metrics")[-1]["judge/spent_annotations"] + 1, RunFolder(tmp_path / "run")
    with pytest.raises(BudgetSpent):
        train(parse_config(config_text, [PRICED, f"judge.budget_annotations={limit}"], where="run.yaml"), run.path)
    assert (len(run.read("metrics")), run.read("evaluations"), _stored(run)) == (3, [], limit)
    with pytest.raises(BudgetSpent):
        resume(run.path, [])
    assert _stored(run) == limit
    resume(run.path, ["judge.budget_annotations=null"])
    _assert_same(run, done)
    resume(run.path, [])
    _assert_same(run, done)


@pytest.mark.slow
def test_a_run_under_a_url_counts_and_catches_up_too(config_text, done, tmp_path):
    limit, url = done.read("metrics")[-1]["judge/spent_annotations"] + 1, f"file://{tmp_path}/run"
    with pytest.raises(BudgetSpent, match=f"{limit} spent"):
        train(parse_config(config_text, [PRICED, f"judge.budget_annotations={limit}"], where="run.yaml"), url)
    with pytest.raises(BudgetSpent, match=f"{limit} spent"):
        resume(url, [])
    for _ in range(2):
        resume(url, ["judge.budget_annotations=1000"])
        run = RemoteFolder(url)
        assert [_lasting(run, log) for log in ("metrics", "evaluations")] == [
            _lasting(done, log) for log in ("metrics", "evaluations")
        ]
