"""A run whose numbers are no longer finite ends by itself, with all that it saved before."""

import jax
import numpy as np

from dar_jax.cli.main import main
from dar_jax.policies.policy import open_policy
from dar_jax.runlog import RunFolder


def test_a_run_that_diverges_ends_with_a_status_of_its_own_before_it_saves_again(config_text, tmp_path, capsys):
    (tmp_path / "run.yaml").write_text(config_text)
    diverging = "learning.optimizer={name: adamw, learning_rate: 1e15, warmup_updates: 0}"
    settings = ["algorithm={name: sft}", "judge=null", "evaluation=null", diverging]
    assert main(["train", str(tmp_path / "run.yaml"), *settings, "--run-dir", str(tmp_path / "run")]) == 7
    (told,) = capsys.readouterr().err.splitlines()
    run = RunFolder(tmp_path / "run")
    numbers = sorted(int(each.name) for each in run.checkpoints.iterdir() if each.name.isdigit())
    assert f"step 1, update {numbers[-1] + 1}: " in told
    assert "the loss is nan" in told
    assert f"checkpoints/{numbers[-1]} (after step 0, update {numbers[-1]} of the next), is finite" in told
    assert "learning.optimizer.learning_rate=1e+15" in told
    assert run.read("metrics") == []
    rows = run.read("not_finite")
    assert len(rows) == 2
    assert {(row["step"], row["update"], row["weight"]) for row in rows} == {(1, numbers[-1] + 1, 1.0)}
    assert all(row["prompt"] and row["completion"] for row in rows)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(open_policy(run.path).params))
