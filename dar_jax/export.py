"""A run's policy as a Hugging Face folder, from a checkpoint alone: no optimizer state is built or read."""

from pathlib import Path
from typing import Literal

import jax

from dar_jax import models
from dar_jax.checkpoints import RunState, huggingface
from dar_jax.config_file import parse_config
from dar_jax.parallel import TRAIN_RULES, shardings
from dar_jax.runlog import RunFolder


def export(run: Path, output: Path, step: int | None = None, dtype: Literal["float32", "bfloat16"] = "float32") -> None:
    """Write config, tokenizer and safetensors of checkpoint number `step` (the newest) to a new folder."""
    folder = RunFolder.reopen(run)
    config = parse_config(folder.config_yaml(), where=str(run / "config.yaml"))
    tokenizer = config.tokenizer.open(config.policy.path)
    decoder = huggingface.read_config(config.policy.path)
    shapes, mesh = models.abstract(decoder), config.mesh.build()
    places = shardings(shapes, models.logical_axes(decoder), mesh, TRAIN_RULES)
    wanted = jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), shapes, places
    )
    with RunState(folder.checkpoints, config.checkpoints.keep) as saved:
        number, params = saved.load_params(wanted, step)
    huggingface.save(output, decoder, params, dtype)
    tokenizer.save(output)
    print(f"{output}: checkpoint {number} of {run}, {dtype}")
