"""Whole runs of the nano policy with every algorithm."""

import json

import numpy as np
import pytest

from dar_jax.algorithms import ALGORITHMS
from dar_jax.cli.main import main
from dar_jax.config.config_file import parse_config
from dar_jax.runlog import RunFolder
from dar_jax.training import resume, train
from tests.nano import lasting
from tests.small_tokenizers import WORDS

ONLINE = [name for name, kind in ALGORITHMS.items() if "rewards" in kind.needs]


def _train(text, path, *overrides):
    train(parse_config(text, overrides, where="run.yaml"), path)
    return RunFolder(path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ONLINE)
def test_three_steps_raise_the_reward(config_text, tmp_path, name):
    """The fourth step's samples are those of a policy that has learnt three times."""
    settings = ["steps=4", "prompts_per_step=32", "evaluation=null", "checkpoints={every_steps: 4}"]
    run = _train(config_text, tmp_path / "run", f"algorithm={{name: {name}}}", "learning.updates=passes", *settings)
    rewards = [row["rewards/mean"] for row in run.read("metrics")]
    assert rewards[3] > rewards[0] + 0.2
    assert "objective/kl" in run.read("metrics")[0]


@pytest.fixture
def recorded_pairs(tmp_path):
    """Prompts with a completion that repeats their words, chosen, and one of other words."""
    rows = []
    for number in range(24):
        said = [WORDS[(number + each) % 8] for each in range(4)]
        rows.append({"prompt": " ".join(said), "chosen": " ".join(said[:3]), "rejected": " ".join(reversed(WORDS[8:]))})
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.slow
def test_recorded_pairs_raise_the_reward(config_text, tmp_path, recorded_pairs):
    data = f"data={{path: {recorded_pairs}}}"
    once = ["learning.updates_per_batch=1", "steps=12", "evaluation.prompts=24"]
    run = _train(config_text, tmp_path / "run", "algorithm={name: offline_dpo, beta: 1.0}", data, *once)
    losses = [row["loss"] for row in run.read("metrics")]
    assert losses[0] == pytest.approx(np.log(2), rel=1e-5)
    assert losses[-1] < losses[0]
    outcome = run.read("evaluations")[-1]
    assert outcome["eval/reward"] > outcome["eval/start_reward"] + 0.3
    assert not (run.path / "completions.jsonl").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["online_dpo", "ppo"])
def test_they_resume_to_the_bit(config_text, tmp_path, name):
    settings = [f"algorithm={{name: {name}}}", "learning.micro_batch_size=4", "evaluation=null"]
    whole = _train(config_text, tmp_path / "whole", *settings, "steps=2")
    half = _train(config_text, tmp_path / "half", *settings, "steps=1")
    resume(half.path, ["steps=2"])
    assert lasting(half.read("metrics")) == lasting(whole.read("metrics"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["best_of_n", "online_dpo", "ppo"])
def test_eight_devices_learn_the_same_examples(config_text, tmp_path, name):
    settings = [f"algorithm={{name: {name}}}", "steps=1", "evaluation=null", "prompts_per_step=16"]
    one = _train(config_text, tmp_path / "one", *settings).read("metrics")[0]
    many = _train(config_text, tmp_path / "many", *settings, "mesh={devices: 8}").read("metrics")[0]
    for key in ("loss", "optimizer/grad_norm", "rewards/mean", "kl/sampling_k3"):
        np.testing.assert_allclose(many[key], one[key], rtol=1e-4, atol=1e-5, err_msg=key)


@pytest.mark.parametrize(
    ("mistake", "told"),
    [
        (
            ["algorithm={name: online_dpo}", "group_size=3"],
            "group_size: online_dpo learns from pairs of completions, got a group_size of 3",
        ),
        (["algorithm={name: rloo}", "group_size=1"], "group_size: rloo compares the completions of a prompt"),
        (
            ["algorithm={name: best_of_n}", "prompts_per_step=6"],
            "6 completions a step cannot be split into 4 equal",
        ),
        (["algorithm={name: online_dpo}", "learning.micro_batch_size=1"], "choose a divisor of 8 that keeps pairs"),
        (
            ["algorithm={name: online_dpo}", "group_size=2", "prompts_per_step=6"],
            "6 pairs a step cannot be split",
        ),
        (["algorithm={name: offline_dpo}"], "has no column 'chosen' to learn from"),
    ],
)
def test_a_mistake_is_one_line(config_text, tmp_path, capsys, mistake, told):
    (tmp_path / "run.yaml").write_text(config_text)
    assert main(["train", str(tmp_path / "run.yaml"), *mistake, "--run-dir", str(tmp_path / "run")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("controller", ["two_kl, sampling_kl: 0.1", "clip_fraction", "temperature"])
def test_a_controller_goes_on_where_it_was(config_text, tmp_path, controller):
    settings = [f"algorithm.adaptive={{name: {controller}}}", "evaluation=null"]
    whole = _train(config_text, tmp_path / "whole", *settings, "steps=3")
    half = _train(config_text, tmp_path / "half", *settings, "steps=2")
    resume(half.path, ["steps=3"])
    taus = [row["dar/total_regularization"] for row in whole.read("metrics")]
    assert taus == [row["dar/total_regularization"] for row in half.read("metrics")]
    assert len(set(taus)) == 3
