"""Runs whose evaluations have a judge of their own, and runs that share a ledger."""

import contextlib
import sqlite3

import pytest

from dar_jax.config.config_file import parse_config
from dar_jax.errors import SettingError
from dar_jax.runlog import RunFolder
from dar_jax.training import train

OTHER = "evaluation.judge={name: scripted, scorer: overlap, noise: 9}"
ONE_STEP = ["steps=1", "judge.canary_every=0", "checkpoints.within_step=false"]


def _asked(file):
    with contextlib.closing(sqlite3.connect(file)) as ledger:
        return {row[0] for row in ledger.execute("select served_model from answers")}


@pytest.mark.slow
def test_held_out_judgements_are_of_the_evaluations_own_judge(config_text, tmp_path):
    overrides = [*ONE_STEP, OTHER, f"ledger={tmp_path / 'shared'}"]
    runs = [RunFolder(tmp_path / name) for name in ("one", "two")]
    for run in runs:
        train(parse_config(config_text, overrides, where="run.yaml"), run.path)
    shared = RunFolder(tmp_path / "shared")
    assert _asked(shared.ledger) == {"scripted-overlap"}
    assert _asked(shared.ledger_of(0, "held_out")) == {"scripted-overlap-noise-9.0"}
    # The second run finds every answer of the first, and keeps none of its own.
    one, two = (run.read("metrics")[0] for run in runs)
    assert (one["judge/billed_calls"], two["judge/billed_calls"]) == (one["judge/spent_annotations"], 0)
    assert two["rewards/mean"] == one["rewards/mean"]
    assert runs[0].read("evaluations") == runs[1].read("evaluations")
    assert not list(tmp_path.glob("[ot]*/*.sqlite"))


def test_an_evaluations_judge_has_no_budget(config_text):
    with pytest.raises(SettingError, match="leave budget_usd and budget_annotations out"):
        parse_config(config_text, ["evaluation.judge={name: scripted, budget_annotations: 5}"], where="run.yaml")


def test_an_evaluation_needs_a_judge(config_text):
    sft = ["algorithm.name=sft", "judge=null"]
    with pytest.raises(SettingError, match=r"evaluation\.judge: the run has no judge"):
        parse_config(config_text, sft, where="run.yaml")
    assert parse_config(config_text, [*sft, OTHER], where="run.yaml").judge is None
