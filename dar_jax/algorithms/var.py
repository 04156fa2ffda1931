"""Self-normalised weights in the manner of VAR (arXiv 2502.11026), on the policy's own samples.

    w(x, y) = n * softmax over the pool of ( rho log pi_ref(y|x)/pi_t(y|x) + A(x, y) / tau )
    L(theta) = - mean w(x, y) log pi_theta(y|x)

VAR's target is pi_ref exp(r / lambda) / Z with Z from the batch; for samples of pi_t that is rho = 1. With rho below 1
the target is DAR's, whose Z is estimated here instead of dropped and whose clip is not needed: the weights' mean is 1.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from pydantic.dataclasses import dataclass

from dar_jax.algorithms.advantages import Normalize, advantages
from dar_jax.algorithms.measures import log_ref_over_sampling
from dar_jax.algorithms.online import Online, online_metrics, two_or_more
from dar_jax.algorithms.regression import Metrics, batch_of, weighted_regression
from dar_jax.algorithms.weighting import effective_sample_size
from dar_jax.batches import Batch, Rewards, Rollouts, measured
from dar_jax.settings.fields import STRICT, Positive, Share

Pool = Literal["batch", "prompt"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class VAR(Online):
    """Weights whose mean over the `pool` is 1. The default tau is ours: at 0.05 one completion would have it all."""

    name: Literal["var"] = "var"
    alpha_ratio: Share = 0.1
    total_regularization: Positive = 1.0
    normalize: Normalize = "batch"
    pool: Pool = "batch"

    def reject_group_size(self, group_size: int) -> str | None:
        """Say why this group size cannot be learnt from, or None."""
        return two_or_more(group_size, self.name)

    def weigh(self, rollouts: Rollouts, rewards: Rewards) -> tuple[Batch, Metrics]:
        """Turn rewards and log-ratios into regression weights, over the whole global batch at once."""
        reward_PG = self.penalized(rollouts, rewards)
        advantage_PG, used_PG = advantages(reward_PG, rewards.valid_PG, normalize=self.normalize)
        log_ratio_PG = log_ref_over_sampling(rollouts).reshape(reward_PG.shape)
        log_weight_PG = self.alpha_ratio * log_ratio_PG + advantage_PG / self.total_regularization
        weight_PG = self_normalized(log_weight_PG, used_PG, self.pool)
        return batch_of(rollouts, weight_PG.reshape(-1), used_PG.reshape(-1)), {
            **online_metrics(rollouts, rewards),
            "var/effective_sample_size": effective_sample_size(weight_PG),
            "var/weight_max": measured(weight_PG.max(), used_PG),
            "completion/advantage": advantage_PG,
            "completion/weight": weight_PG,
        }

    def regress(self, logprob_ERT: jax.Array, batch: Batch) -> tuple[jax.Array, Metrics]:
        """Return the weighted regression loss, summed over examples (see `regression`)."""
        return weighted_regression(logprob_ERT, batch)


def self_normalized(log_weight_PG: jax.Array, used_PG: jax.Array, pool: Pool) -> jax.Array:
    """Return exp(log_weight) over its mean among what is used of the batch or of the prompt, detached; 0 elsewhere."""
    axis = None if pool == "batch" else 1
    share_PG = jax.nn.softmax(jnp.where(used_PG, log_weight_PG, 0.0), axis=axis, where=used_PG)
    return jax.lax.stop_gradient(jnp.where(used_PG, share_PG * used_PG.sum(axis, keepdims=True), 0.0))
