"""A step that teaches nothing makes no update; after some in a row the run saves and ends."""

import numpy as np
import pytest

from dar_jax.chat.scripted.scorers import SCORERS
from dar_jax.config.config_file import parse_config
from dar_jax.errors import JudgeStopped
from dar_jax.run.progress import RunProgress, tied_steps
from dar_jax.runlog import RunFolder
from dar_jax.training import train


@pytest.mark.parametrize(
    ("advantage_PG", "count"), [([[0.0, 0.0]], 3), ([[0.0, 1e-9]], 0), ([[0.0, np.nan]], 0)], ids=["tied", "not", "NaN"]
)
def test_steps_without_an_advantage_are_counted_as_long_as_they_follow_each_other(advantage_PG, count):
    assert tied_steps(2, np.array(advantage_PG)) == count


def test_the_count_goes_on_with_the_next_step():
    assert RunProgress(tied_steps=2).next_step(evaluation_due=False, memory={}).tied_steps == 2


def test_a_judge_that_tells_nothing_apart_moves_nothing_and_ends_the_run(config_text, tmp_path, monkeypatch):
    monkeypatch.setitem(SCORERS, "equal", lambda prompt, completion: 1.0)  # as empty ones get
    settings = ["judge.scorer=equal", "max_tied_steps=2", "evaluation=null", "checkpoints.within_step=false"]
    with pytest.raises(JudgeStopped, match=r"max_tied_steps=2: in the last 2 steps .*\n.*--resume") as stopped:
        train(parse_config(config_text, settings, where="run.yaml"), tmp_path / "run")
    assert stopped.value.exit_status == 3
    run = RunFolder(tmp_path / "run")
    first, second = run.read("metrics")
    assert first["optimizer/updates"] == second["optimizer/updates"] == 0
    assert "loss" not in first
    # Had it moved, the reference would be another policy by now.
    assert second["objective/kl"] == 0
    assert {each.name for each in run.checkpoints.iterdir() if each.name.isdigit()} == {"0", "4", "8"}
