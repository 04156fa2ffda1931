"""The newcomer's run, and where its starting policy comes from. Paths are those of the repository."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dar_jax.cli.main import main
from dar_jax.data.minitldr import MiniTldr
from dar_jax.runlog import RunFolder
from tests.plain import plain_environment
from tests.serving import answer, serve

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def _train(config, run, *overrides):
    """Train in a process of its own: what these tests leave out of compiling would cost more in such a run."""
    command = ["train", f"configs/{config}.yaml", "mesh.devices=1", "display.mode=quiet", *overrides]
    command = [sys.executable, "-m", "dar_jax", *command, "--run-dir", str(run)]
    subprocess.run(command, cwd=ROOT, env=plain_environment(), check=True)
    return RunFolder(run)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    with pytest.MonkeyPatch.context() as at:
        at.chdir(ROOT)
        return _train("quickstart", tmp_path_factory.mktemp("quickstart") / "run")


def test_the_quickstart_aligns_as_it_says(run):
    rewards = [row["rewards/mean"] for row in run.read("metrics")]
    assert 4 <= rewards[0] <= 6
    assert rewards[-1] >= 9
    outcome = run.read("evaluations")[-1]
    assert outcome["eval/wins"] >= 0.9 * 256
    assert outcome["eval/mean_length"] < 24
    config = run.config_yaml()
    for setting in ("alpha_ratio: 0.1", "total_regularization: 0.05", "weight_clip: 20.0"):
        assert setting in config


def test_its_export_answers_through_transformers_serve(run, tmp_path, capsys):
    """A chat client puts a post to it and gets the summary that our own sampler gives."""
    pytest.importorskip("torch")
    pytest.importorskip("fastapi")
    policy, post = tmp_path / "policy", MiniTldr(split="test").load()[3].text
    assert main(["export", str(run.path), "--output", str(policy)]) == 0
    with serve(policy, tmp_path) as base_url:
        said = answer(base_url, policy, post)
    capsys.readouterr()
    sampled = ["sample", str(policy), "--prompt", post, "--raw", "--temperature", "0", "--max-tokens", "12", "--json"]
    assert main(sampled) == 0
    assert said == json.loads(capsys.readouterr().out)["completion"]
