"""A run's policy as a Hugging Face folder, from a checkpoint alone: no optimizer state is built or read."""

from pathlib import Path
from typing import Literal

from dar_jax.checkpoints import huggingface
from dar_jax.errors import SettingError
from dar_jax.policy import is_run, open_policy


def export(run: Path, output: Path, step: int | None = None, dtype: Literal["float32", "bfloat16"] = "float32") -> None:
    """Write config, tokenizer and safetensors of the policy after `step` steps (as last saved) to a new folder."""
    if not is_run(run):
        raise SettingError(f"{run}: nothing to export there (no config.yaml with checkpoints); name a run folder")
    policy = open_policy(run, step)
    huggingface.save(output, policy.decoder, policy.params, dtype)
    policy.tokenizer.save(output)
    print(f"{output}: checkpoint {policy.number} of {run}, {dtype}")
