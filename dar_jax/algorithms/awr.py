"""Advantage-Weighted Regression (Peng et al., arXiv 1910.00177), the parent of DAR.

    w(x, y) = min(exp(A(x, y) / temperature), weight_clip),   L(theta) = - mean w(x, y) log pi_theta(y|x)

The mean reward of a prompt's completions replaces the fitted value function. It is DAR with rho = 0.
"""

from typing import Literal

import jax.numpy as jnp
from pydantic.dataclasses import dataclass

from dar_jax.algorithms.base import Baseline, Normalize, Online, advantages, weighted_batch
from dar_jax.algorithms.dar import LogWeights, reject_single
from dar_jax.algorithms.losses import Metrics
from dar_jax.batches import Batch, Rewards, Rollouts
from dar_jax.settings.fields import STRICT, Positive


@dataclass(frozen=True, kw_only=True, config=STRICT)
class AWR(Online):
    """AWR at the settings of its authors' code: temperature 1, clip 20, advantages z-scored over the batch."""

    name: Literal["awr"] = "awr"
    temperature: Positive = 1.0
    weight_clip: Positive = 20.0
    baseline: Baseline = "prompt"
    normalize: Normalize = "batch"

    def reject_group_size(self, group_size: int) -> str | None:
        """Return why this group size cannot be used, or None if it can."""
        return reject_single(group_size, self.baseline, self.normalize)

    def weigh(self, rollouts: Rollouts, rewards: Rewards) -> tuple[Batch, Metrics]:
        """Return the batch to regress on, weighted over the whole global batch at once, and metrics."""
        reward_PG = self.penalized(rollouts, rewards)
        advantage_PG, used_PG = advantages(
            reward_PG, rewards.valid_PG, baseline=self.baseline, normalize=self.normalize
        )
        no_reference_PG = jnp.zeros_like(advantage_PG)
        terms = LogWeights(no_reference_PG, advantage_PG / self.temperature, used_PG, 0.0, self.temperature)
        weight_PG = terms.weight(self.weight_clip)
        batch, metrics = weighted_batch(rollouts, rewards, advantage_PG, weight_PG, used_PG)
        return batch, metrics | terms.metrics(self.weight_clip)
