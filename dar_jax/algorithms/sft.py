"""Supervised fine-tuning: the same regression, every demonstration with weight 1."""

from typing import Literal

import jax
import jax.numpy as jnp
from pydantic.dataclasses import dataclass

from dar_jax.algorithms.base import Recorded, completion_metrics
from dar_jax.algorithms.losses import batch_of
from dar_jax.batches import Batch, Rewards, Rollouts
from dar_jax.settings.fields import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SFT(Recorded):
    """Maximum likelihood on recorded completions; needs no judge, reference or sampler."""

    name: Literal["sft"] = "sft"

    def weigh(self, rollouts: Rollouts, rewards: Rewards | None = None) -> tuple[Batch, dict[str, jax.Array]]:
        """Return a batch in which every example has weight 1."""
        count = rollouts.ended_B.shape[0]
        return batch_of(rollouts, jnp.ones(count), jnp.ones(count, bool)), completion_metrics(rollouts)
