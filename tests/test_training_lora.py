"""Runs that train adapters alone: what moves, what is shared, what a checkpoint holds, what an export gives."""

import json

import jax
import numpy as np
import pytest

from dar_jax import models
from dar_jax.checkpoints import huggingface
from dar_jax.cli.main import main
from dar_jax.config.config_file import parse_config
from dar_jax.errors import SettingError
from dar_jax.policies.policy import open_policy
from dar_jax.run.build import open_session
from dar_jax.runlog import RunFolder
from dar_jax.terminal.console import Console
from dar_jax.training import resume, train
from tests.models.score import logits
from tests.nano import write_policy, write_prompts
from tests.small_tokenizers import hf

TOKENS = [[3, 7, 8, 6, 9]]


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A pretrained nano policy."""
    drawn = write_policy(tmp_path_factory.mktemp("drawn"))
    config = huggingface.read_config(drawn)
    folder = tmp_path_factory.mktemp("start") / "policy"
    huggingface.save(folder, config, jax.jit(models.init, static_argnums=0)(config, jax.random.key(0)))
    hf().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def config_text(start, tmp_path_factory):
    prompts = write_prompts(tmp_path_factory.mktemp("data") / "prompts.jsonl")
    return f"""
    policy: {{path: {start}, lora: {{rank: 2, alpha: 8}}}}
    data: {{path: {prompts}}}
    judge: {{name: scripted, scorer: overlap}}
    steps: 2
    prompts_per_step: 4
    sampling: {{max_prompt_length: 16, max_completion_length: 8}}
    learning: {{updates_per_batch: 2, compute_dtype: float32, optimizer: {{learning_rate: 1e-2, warmup_updates: 1}}}}
    checkpoints: {{every_steps: 1, keep: 9}}
    mesh: {{devices: 1}}
    display: {{mode: quiet}}
    """


@pytest.fixture(scope="module")
def done(config_text, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "lora"
    train(parse_config(config_text, [], where="run.yaml"), path)
    return RunFolder(path)


def test_the_reference_is_the_base_without_a_second_copy(config_text):
    session = open_session(parse_config(config_text, [], where="run.yaml"), Console("quiet"))
    with jax.set_mesh(session.mesh):
        start = session.start_params(Console("quiet"))
        reference, state = session.learner.reference(start), session.learner.init(start)
        policy = session.learner.decode_params(state)
    lora = session.decoder.lora
    frozen, shared, decoded = (models.split(tree, lora)[1] for tree in (start, reference, policy))
    where = [
        [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(tree)]
        for tree in (frozen, shared, decoded, state.frozen)
    ]
    assert where[0] == where[1] == where[2] == where[3]
    assert {path[-1].key for path, _ in jax.tree_util.tree_leaves_with_path(state.params)} == {"lora_a", "lora_b"}


def test_the_first_log_ratio_is_exactly_zero_and_adapters_learn(done):
    first, second = done.read("metrics")
    assert first["objective/kl"] == first["objective/kl_k3"] == 0.0
    assert second["objective/kl_k3"] > 0.0
    assert first["optimizer/grad_norm"] > 0.0


def test_a_checkpoint_holds_adapters_alone(done, start):
    policy = open_policy(done.path)
    base = huggingface.load(start)[1]
    assert policy.number == 4
    adapters, below = models.split(policy.params, policy.decoder.lora)
    jax.tree.map(np.testing.assert_array_equal, below, base)
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(adapters))
    saved = next((done.checkpoints / "4").glob("**/params"))
    assert "lora_a" in (text := (saved / "_METADATA").read_text())
    assert "kernel" not in text


def test_a_run_with_adapters_goes_on_to_the_bit(config_text, done, tmp_path):
    train(parse_config(config_text, ["steps=1"], where="run.yaml"), tmp_path / "cut")
    resume(tmp_path / "cut", ["steps=2"])
    ours, whole = (open_policy(path).params for path in (tmp_path / "cut", done.path))
    jax.tree.map(np.testing.assert_array_equal, ours, whole)


@pytest.mark.slow
def test_eight_devices_train_the_adapters_one_does(config_text, done, tmp_path):
    mesh = ["mesh.devices=8", "mesh.fsdp=4", "mesh.tensor=2", "steps=1"]
    train(parse_config(config_text, mesh, where="run.yaml"), tmp_path / "eight")
    alone, together = done.read("metrics")[0], RunFolder(tmp_path / "eight").read("metrics")[0]
    assert together["objective/kl"] == 0.0
    for name in ("loss", "rewards/mean", "optimizer/grad_norm"):
        assert together[name] == pytest.approx(alone[name], rel=1e-4)


def test_another_base_below_the_adapters_is_refused(config_text, done, start, tmp_path):
    config, params = huggingface.load(start)
    huggingface.save(tmp_path / "other", config, jax.tree.map(lambda leaf: leaf + 1e-3, params))
    hf().save_pretrained(tmp_path / "other")
    text = (done.path / "config.yaml").read_text()
    try:
        (done.path / "config.yaml").write_text(text.replace(str(start), str(tmp_path / "other")))
        with pytest.raises(SettingError, match="is not what the run started from"):
            resume(done.path, ["steps=3"])
    finally:
        (done.path / "config.yaml").write_text(text)


def test_the_export_is_merged(done, tmp_path):
    assert main(["export", str(done.path), "--output", str(tmp_path / "merged")]) == 0
    policy = open_policy(done.path)
    config, params = huggingface.load(tmp_path / "merged")
    found, expected = logits(config, params, TOKENS), logits(policy.decoder, policy.params, TOKENS)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


# 2026-11-24: peft 0.21 asks transformers 5.23 for an attribute that is going.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_the_export_is_an_adapter_that_peft_loads(done, start, tmp_path):
    torch, peft = pytest.importorskip("torch"), pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    assert main(["export", str(done.path), "--output", str(tmp_path / "adapter"), "--adapter"]) == 0
    card = (tmp_path / "adapter" / "README.md").read_text()
    assert "library_name: peft" in card
    assert 'AutoPeftModelForCausalLM.from_pretrained("adapter")' in card
    stated = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert (stated["r"], stated["lora_alpha"], stated["base_model_name_or_path"]) == (2, 8.0, str(start))
    base = AutoModelForCausalLM.from_pretrained(start, dtype=torch.float32)
    model = peft.PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    with torch.no_grad():
        found = model(torch.tensor(TOKENS)).logits
    policy = open_policy(done.path)
    np.testing.assert_allclose(found, logits(policy.decoder, policy.params, TOKENS), rtol=0, atol=1e-4)


def test_what_adapters_cannot_be_together_with_is_refused(config_text, tmp_path, capsys):
    with pytest.raises(SettingError, match=r"policy.lora: adapters need a pretrained base model"):
        parse_config(config_text, ["policy.weights=random"], where="run.yaml")
    with pytest.raises(SettingError, match=r"reference.placement: with policy.lora the reference is the frozen model"):
        parse_config(config_text, ["reference.placement=host"], where="run.yaml")
    train(parse_config(config_text, ["policy.lora=null", "steps=1"], where="run.yaml"), tmp_path / "whole")
    assert main(["export", str(tmp_path / "whole"), "--output", str(tmp_path / "out"), "--adapter"]) == 2
    assert "trained the whole model (no policy.lora); leave --adapter out" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
