"""The configs of the paper's tasks, and the sizes of models that they can be planned with."""

import importlib.util
from pathlib import Path

import pytest

from dar_jax.config.config_file import read_config
from dar_jax.learning.optimizers import Adafactor
from dar_jax.parallel import MeshShape
from dar_jax.planning.plan import count_parameters
from dar_jax.run.build import read_decoder

PODS = Path(__file__).parents[2] / "configs" / "pods"
TASKS = ("tldr", "hh_helpful", "hh_harmless")


@pytest.mark.parametrize("task", TASKS)
def test_a_task_has_the_papers_settings(task):
    config = read_config(PODS / f"{task}.yaml", [f"policy.path={PODS}/models/qwen2-7b"])
    assert (config.rows_per_step, config.group_size, config.learning.updates_per_batch) == (512, 4, 4)
    assert config.learning.optimizer == Adafactor(learning_rate=1e-6)
    algorithm = config.algorithm
    assert (algorithm.alpha_ratio, algorithm.total_regularization, algorithm.weight_clip) == (0.1, 0.05, 20)
    assert config.sampling.temperature == 0.9
    assert (config.sampling.max_prompt_length, config.sampling.max_completion_length) == (512, 512)
    assert count_parameters(read_decoder(config, MeshShape(devices=1).build())) == 7_615_616_512


@pytest.mark.parametrize(
    ("model", "parameters"),
    [("qwen2-7b", 7_615_616_512), ("qwen2.5-72b", 72_706_203_648), ("qwen2-1.5b", 1_543_714_304)],
)
def test_the_sizes_are_those_of_the_published_checkpoints(model, parameters):
    config = read_config(PODS / "tldr.yaml", [f"policy.path={PODS}/models/{model}"])
    assert count_parameters(read_decoder(config, MeshShape(devices=1).build())) == parameters


def test_a_transcript_becomes_the_conversation_before_its_last_answer():
    spec = importlib.util.spec_from_file_location("hh_harmless", PODS / "hh_harmless.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    transcript = "\n\nHuman: Hi\n\nthere\n\nAssistant: Hello.\n\nHuman: Bye\n\nAssistant: \n\nNo."
    assert module.prompt(transcript) == [
        {"role": "user", "content": "Hi\n\nthere"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "Bye"},
    ]
