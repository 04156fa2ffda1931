"""The small run that several hosts make, and the same on one."""

import pytest

from dar_jax.config.config_file import parse_config
from dar_jax.runlog import RunFolder
from dar_jax.training import train
from tests.multihost import train as scorers  # noqa: F401  which are then to be had here too
from tests.nano import write_policy, write_prompts


@pytest.fixture(scope="package")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nano")
    policy, prompts = write_policy(folder / "policy"), write_prompts(folder / "prompts.jsonl")
    file = folder / "run.yaml"
    file.write_text(f"""
    policy: {{path: {policy}, weights: random}}
    data: {{path: {prompts}}}
    judge: {{name: scripted, scorer: moody, max_failure_share: 0.5, canary_every: 1}}
    steps: 2
    prompts_per_step: 8
    sampling: {{max_prompt_length: 16, max_completion_length: 8}}
    learning: {{compute_dtype: float32, optimizer: {{learning_rate: 1e-2, warmup_updates: 1}}}}
    checkpoints: {{every_steps: 1, keep: 100}}
    evaluation: {{data: {{path: {prompts}}}, prompts: 7}}
    display: {{mode: plain}}
    """)
    return file


@pytest.fixture(scope="package")
def alone(config, tmp_path_factory):
    """The run on one host, which nothing stopped."""
    path = tmp_path_factory.mktemp("alone") / "run"
    train(parse_config(config.read_text(), ["mesh.devices=4", "display.mode=quiet"], where="run.yaml"), path)
    return RunFolder(path)
