"""The newcomer's run, and where its starting policy comes from. Paths are those of the repository."""

from pathlib import Path

import pytest

from dar_jax.cli import main
from dar_jax.runlog import RunFolder

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def _train(config, run, *overrides):
    command = ["train", f"configs/{config}.yaml", "mesh.devices=1", "display.mode=quiet", *overrides]
    assert main([*command, "--run-dir", str(run)]) == 0
    return RunFolder(run)


def test_the_quickstart_aligns_as_it_says(tmp_path):
    run = _train("quickstart", tmp_path / "run")
    rewards = [row["rewards/mean"] for row in run.read("metrics")]
    assert 4 <= rewards[0] <= 6
    assert rewards[-1] >= 9
    outcome = run.read("evaluations")[-1]
    assert outcome["eval/wins"] >= 0.9 * 256
    assert outcome["eval/mean_length"] < 24
    config = run.config_yaml()
    for setting in ("alpha_ratio: 0.1", "total_regularization: 0.05", "weight_clip: 20.0"):
        assert setting in config


@pytest.mark.parametrize("name", ["minitldr", "docstrings"])
def test_the_shipped_start_is_what_its_config_makes(tmp_path, name):
    """Trained again, it gets the same score from the judge: both start one step of the same run."""
    _train(f"{name}_sft", tmp_path / "sft")
    assert main(["export", str(tmp_path / "sft"), "--output", str(tmp_path / "policy")]) == 0
    judge = "minitldr" if name == "minitldr" else "overlap"
    once = [f"judge={{name: scripted, scorer: {judge}}}", "evaluation=null", "steps=1"]
    config = "quickstart" if name == "minitldr" else name
    shipped = _train(config, tmp_path / "shipped", *once)
    again = _train(config, tmp_path / "again", *once, f"policy.path={tmp_path / 'policy'}")
    scores = [run.read("metrics")[0]["rewards/mean"] for run in (shipped, again)]
    assert abs(scores[0] - scores[1]) < 0.6
