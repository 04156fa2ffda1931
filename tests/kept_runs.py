"""Run folders as training leaves them, made without training: settings, words, checkpoints of drawn parameters."""

import json
from pathlib import Path

import jax
import numpy as np

from dar_jax import models
from dar_jax.checkpoints import RunState
from dar_jax.config.config_file import parse_config, to_yaml
from dar_jax.models import Params, families
from dar_jax.policies.policy import keep_words
from dar_jax.runlog import RunFolder
from tests.models.score import draw
from tests.nano import write_policy, write_prompts

UPDATES = 4


def keep_run(folder: Path, numbers: tuple[int, ...] = (0, 4, 8), **settings: object) -> RunFolder:
    """Make a run of 4 updates a step with these checkpoints; `settings` replace those of the config by key."""
    policy, prompts = write_policy(folder / "start"), write_prompts(folder / "prompts.jsonl")
    plain = {
        "policy": {"path": str(policy), "weights": "random"},
        "data": {"path": str(prompts)},
        "judge": {"name": "scripted", "scorer": "overlap"},
        "steps": 3,
        "prompts_per_step": 8,
        "learning": {"updates_per_batch": UPDATES},
        **settings,
    }
    config = parse_config(json.dumps(plain), where="run.yaml")
    decoder = families.read(json.loads((policy / "config.json").read_text()))
    run = RunFolder.create(folder / "run", to_yaml(config))
    keep_words(run, config.policy.path, decoder, config.tokenizer.open(config.policy.path))
    with RunState(run.checkpoints, keep=100) as saved:
        for number in numbers:
            trees = {"params": draw(decoder, seed=number), "optimizer": {"moment": np.zeros(3, np.float32)}}
            saved.save(number, trees, {"step": number // UPDATES}, None)
    return run


def same(one: Params, other: Params) -> None:
    """Assert that two trees of parameters are equal to the bit."""
    jax.tree.map(np.testing.assert_array_equal, one, other)


def expected(decoder: models.DecoderConfig, number: int) -> Params:
    """Give the parameters that `keep_run` saved under a number."""
    return draw(decoder, seed=number)
