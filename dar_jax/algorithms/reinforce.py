"""REINFORCE with a baseline (Williams, 1992), a completion as one action, the KL penalty within the reward.

    L(theta) = - mean (R(x, y) - mean of the batch) log pi_theta(y|x)

with R(x, y) = r(x, y) - kl_coef log pi_t(y|x)/pi_ref(y|x).
"""

from typing import ClassVar, Literal

import jax.numpy as jnp
from pydantic.dataclasses import dataclass

from dar_jax.algorithms.base import Baseline, Normalize, Online, advantages, log_ref_over_sampling, weighted_batch
from dar_jax.algorithms.losses import Metrics
from dar_jax.batches import Batch, Rewards, Rollouts
from dar_jax.settings.fields import STRICT, PositiveOrZero


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Reinforce(Online):
    """The policy gradient at theta = theta_t; later updates of a batch are not importance-corrected.

    `kl_coef` is in reward units a nat; `normalize` divides advantages by their deviation (off).
    """

    baseline: ClassVar[Baseline] = "batch"

    name: Literal["reinforce"] = "reinforce"
    kl_coef: PositiveOrZero = 0.05
    normalize: Normalize = "none"

    def weigh(self, rollouts: Rollouts, rewards: Rewards) -> tuple[Batch, Metrics]:
        """Return a batch whose weights are the advantages of reward less KL penalty, of either sign, and metrics."""
        reward_PG = self.penalized(rollouts, rewards)
        shaped_PG = reward_PG + self.kl_coef * log_ref_over_sampling(rollouts).reshape(reward_PG.shape)
        advantage_PG, used_PG = advantages(
            shaped_PG, rewards.valid_PG, baseline=self.baseline, normalize=self.normalize
        )
        batch, metrics = weighted_batch(rollouts, rewards, advantage_PG, advantage_PG, used_PG)
        return batch, metrics | {"advantages/used_fraction": used_PG.mean(dtype=jnp.float32)}
