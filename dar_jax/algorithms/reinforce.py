"""REINFORCE with a baseline (Williams, 1992), a completion as one action, the KL penalty within the reward.

    L(theta) = - mean (R(x, y) - mean of the batch) log pi_theta(y|x)

with R(x, y) = r(x, y) - kl_coef log pi_t(y|x)/pi_ref(y|x).
"""

from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from pydantic.dataclasses import dataclass

from dar_jax.algorithms.advantages import Baseline, Normalize, advantages
from dar_jax.algorithms.measures import log_ref_over_sampling
from dar_jax.algorithms.online import Online, online_metrics
from dar_jax.algorithms.regression import Metrics, batch_of, weighted_regression
from dar_jax.batches import Batch, Rewards, Rollouts, measured
from dar_jax.settings.fields import STRICT, PositiveOrZero


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Reinforce(Online):
    """The policy gradient at theta = theta_t; the updates of one batch are not corrected for what moved before them.

    `kl_coef` is in reward units a nat; `normalize` divides advantages by their deviation (off).
    """

    baseline: ClassVar[Baseline] = "batch"

    name: Literal["reinforce"] = "reinforce"
    kl_coef: PositiveOrZero = 0.05
    normalize: Normalize = "none"

    def weigh(self, rollouts: Rollouts, rewards: Rewards) -> tuple[Batch, Metrics]:
        """Turn rewards less the KL penalty into advantages, which are the regression's weights, of either sign."""
        reward_PG = self.penalized(rollouts, rewards)
        shaped_PG = reward_PG + self.kl_coef * log_ref_over_sampling(rollouts).reshape(reward_PG.shape)
        advantage_PG, used_PG = advantages(
            shaped_PG, rewards.valid_PG, baseline=self.baseline, normalize=self.normalize
        )
        return batch_of(rollouts, advantage_PG.reshape(-1), used_PG.reshape(-1)), {
            **online_metrics(rollouts, rewards),
            "advantages/abs_max": measured(jnp.abs(advantage_PG).max(), used_PG),
            "advantages/used_fraction": used_PG.mean(dtype=jnp.float32),
            "completion/advantage": advantage_PG,
            "completion/weight": advantage_PG,
        }

    def regress(self, logprob_ERT: jax.Array, batch: Batch) -> tuple[jax.Array, Metrics]:
        """Return the regression loss with advantages for weights, summed over examples."""
        return weighted_regression(logprob_ERT, batch)
