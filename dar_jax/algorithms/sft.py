"""Supervised fine-tuning: the same regression, every demonstration with weight 1."""

from typing import Literal

import jax
import jax.numpy as jnp
from pydantic.dataclasses import dataclass

from dar_jax.algorithms.measures import completion_metrics
from dar_jax.algorithms.recorded_only import Recorded
from dar_jax.algorithms.regression import Metrics, batch_of, weighted_regression
from dar_jax.batches import Batch, Rewards, Rollouts
from dar_jax.settings.fields import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SFT(Recorded):
    """Maximum likelihood on recorded completions; needs no judge, no reference, no sampler."""

    name: Literal["sft"] = "sft"

    def weigh(self, rollouts: Rollouts, rewards: Rewards | None = None) -> tuple[Batch, dict[str, jax.Array]]:
        """Weigh every example 1."""
        count = rollouts.ended_B.shape[0]
        return batch_of(rollouts, jnp.ones(count), jnp.ones(count, bool)), completion_metrics(rollouts)

    def regress(self, logprob_ERT: jax.Array, batch: Batch) -> tuple[jax.Array, Metrics]:
        """Return the negative log-likelihood, summed over examples."""
        return weighted_regression(logprob_ERT, batch)
