"""Opening a policy: any source, any mesh, a run folder by itself."""

import json
import shutil

import jax
import numpy as np
import pytest

from dar_jax.checkpoints import huggingface
from dar_jax.errors import SettingError
from dar_jax.policies.policy import is_run, keep_words, open_policy
from dar_jax.records import Prompt
from dar_jax.runlog import RunFolder
from dar_jax.terminal.console import Console
from dar_jax.tokens import Tokenizer
from tests.kept_runs import expected, keep_run, same
from tests.models.score import draw
from tests.small_tokenizers import IM_TEMPLATE, hf


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return keep_run(tmp_path_factory.mktemp("kept"))


@pytest.mark.parametrize(("step", "number"), [(None, 8), (0, 0), (1, 4), (2, 8)])
def test_a_step_is_that_of_the_log(run, step, number):
    """Step N is the policy after N steps of metrics.jsonl; 0 is the start."""
    policy = open_policy(run.path, step)
    assert (policy.number, policy.source) == (number, str(run.path))
    assert policy.config.steps == 3
    same(policy.params, expected(policy.decoder, number))


def test_a_step_that_is_not_kept_lists_those_that_are(run):
    with pytest.raises(SettingError, match=r"--step 3: .*run has kept the state after these steps: 0, 1, 2$"):
        open_policy(run.path, 3)


def test_the_newest_may_lie_within_a_step(tmp_path):
    run = keep_run(tmp_path, (4, 6))
    assert open_policy(run.path).number == 6
    assert open_policy(run.path, 1).number == 4
    with pytest.raises(SettingError, match=r"these steps: 1$"):
        open_policy(run.path, 2)


def test_a_checkpoint_that_is_not_finite_is_refused_by_the_names_of_its_arrays(tmp_path, monkeypatch):
    def spoilt(decoder, seed):
        params = jax.tree.map(np.array, draw(decoder, seed=seed))
        params["layers"]["mlp"]["up"]["kernel"][1, 0, 0] = np.nan
        return params

    monkeypatch.setattr("tests.kept_runs.draw", spoilt)
    run = keep_run(tmp_path, (4,))
    with pytest.raises(SettingError, match=r"checkpoints/4: NaN or infinite .* layers/mlp/up/kernel \(layers 1\); "):
        open_policy(run.path)


def test_a_run_without_a_checkpoint_is_said(tmp_path):
    run = keep_run(tmp_path, ())
    with pytest.raises(SettingError, match="no complete checkpoint there yet"):
        open_policy(run.path)


@pytest.mark.parametrize(("mesh", "shape"), [({"devices": 2, "tensor": 2}, (1, 1, 2)), ({"data": 16}, (1, 8, 1))])
def test_a_run_opens_on_other_devices_than_it_was_trained_on(tmp_path, mesh, shape):
    """The run's layout where this machine has it, else all of its devices side by side."""
    policy = open_policy(keep_run(tmp_path, (4,), mesh=mesh).path)
    assert tuple(policy.mesh.shape.values()) == shape
    assert all(leaf.sharding.mesh == policy.mesh for leaf in jax.tree.leaves(policy.params))
    same(policy.params, expected(policy.decoder, 4))


def test_a_run_folder_is_enough_by_itself(tmp_path, monkeypatch):
    """Neither the policy it started from, nor its data, nor the optimizer's state is there any more."""
    run = keep_run(tmp_path / "here", (4,))
    shutil.rmtree(run.checkpoints / "4" / "optimizer")
    moved = tmp_path / "there"
    run.path.rename(moved)
    shutil.rmtree(tmp_path / "here")
    monkeypatch.chdir(tmp_path)
    policy = open_policy(moved)
    same(policy.params, expected(policy.decoder, 4))
    assert policy.tokenizer.encode_text("the cat") == [6, 7]


def test_a_run_speaks_as_it_was_told_to(tmp_path):
    """A tokenizer of its own, a template of its own, every end: all as the run had them."""
    (tmp_path / "words").mkdir()
    hf().save_pretrained(tmp_path / "words")
    (tmp_path / "template").write_text(IM_TEMPLATE)
    settings = {"path": str(tmp_path / "words"), "chat_template": str(tmp_path / "template"), "wrap_text": True}
    run = keep_run(tmp_path / "kept", (4,), tokenizer=settings)
    config = open_policy(run.path).config
    asked = Prompt(id=0, text="the cat")
    trained = config.tokenizer.open(config.policy.path)
    shutil.rmtree(tmp_path / "words")
    (tmp_path / "template").unlink()
    spoken = open_policy(run.path).tokenizer
    assert spoken.encode_prompt(asked) == trained.encode_prompt(asked)
    assert spoken.eos_ids == trained.eos_ids == {2, 5}


def test_a_model_folder_opens_on_all_devices(run, tmp_path):
    policy = open_policy(run.path, 1)
    huggingface.save(tmp_path / "model", policy.decoder, policy.params)
    policy.tokenizer.save(tmp_path / "model")
    assert not is_run(tmp_path / "model")
    model = open_policy(tmp_path / "model")
    assert (model.config, model.number, model.decoder) == (None, None, policy.decoder)
    assert tuple(model.mesh.shape.values()) == (1, 8, 1)
    same(model.params, policy.params)
    with pytest.raises(SettingError, match=r"--step 1: .*model is no run folder"):
        open_policy(tmp_path / "model", 1)


def test_reading_a_model_is_told(run, tmp_path, capsys):
    policy = open_policy(run.path, 1)
    huggingface.save(tmp_path / "model", policy.decoder, policy.params)
    policy.tokenizer.save(tmp_path / "model")
    open_policy(tmp_path / "model", console=Console("json"))
    said = json.loads(capsys.readouterr().out)
    assert said["megabytes"] == sum(leaf.nbytes for leaf in jax.tree.leaves(policy.params)) / 1e6


@pytest.mark.parametrize("source", ["./nowhere", "/no/such/folder"])
def test_what_is_nowhere_is_said(source):
    with pytest.raises(SettingError, match=f"{source}: no such folder"):
        open_policy(source)


@pytest.mark.parametrize("start", ["Qwen/Qwen3-0.6B", "."])
def test_a_hub_id_is_remembered_and_a_folder_is_not(run, tmp_path, start):
    policy = open_policy(run.path, 1)
    folder = RunFolder.create(tmp_path / "run", "")
    keep_words(folder, start, policy.decoder, policy.tokenizer)
    stated = huggingface.read_json(folder.policy / "config.json")
    assert stated.get("_name_or_path") == (start if "/" in start else None)
    assert huggingface.read_config(folder.policy) == policy.decoder
    assert Tokenizer.load(str(folder.policy)).eos_ids == policy.tokenizer.eos_ids
