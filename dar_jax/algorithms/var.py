"""Self-normalised weights in the manner of VAR (arXiv 2502.11026), on the policy's own samples.

    w(x, y) = n * softmax over the pool of ( rho log pi_ref(y|x)/pi_t(y|x) + A(x, y) / tau )
    L(theta) = - mean w(x, y) log pi_theta(y|x)

VAR's target is pi_ref exp(r / lambda) / Z with Z from the batch; for samples of pi_t that is rho = 1. With rho below 1
the target is DAR's, whose Z is estimated here instead of dropped and whose clip is not needed: the weights' mean is 1.
"""

from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from pydantic.dataclasses import dataclass

from dar_jax.algorithms.base import Normalize, Online, advantages, log_ref_over_sampling, online_metrics
from dar_jax.algorithms.dar import effective_sample_size
from dar_jax.algorithms.losses import Metrics, batch_of
from dar_jax.batches import Batch, Rewards, Rollouts, measured
from dar_jax.settings.fields import STRICT, Positive, Share

Pool = Literal["batch", "prompt"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class VAR(Online):
    """Regression with weights whose mean over the `pool` is 1.

    The default tau is ours: at the paper's 0.05 one completion would get all of the weight.
    """

    min_group_size: ClassVar[int] = 2

    name: Literal["var"] = "var"
    alpha_ratio: Share = 0.1
    total_regularization: Positive = 1.0
    normalize: Normalize = "batch"
    pool: Pool = "batch"

    def weigh(self, rollouts: Rollouts, rewards: Rewards) -> tuple[Batch, Metrics]:
        """Return the batch to regress on, weighted over the whole global batch at once, and metrics."""
        reward_PG = self.penalized(rollouts, rewards)
        advantage_PG, used_PG = advantages(reward_PG, rewards.valid_PG, normalize=self.normalize)
        log_ratio_PG = log_ref_over_sampling(rollouts).reshape(reward_PG.shape)
        log_weight_PG = self.alpha_ratio * log_ratio_PG + advantage_PG / self.total_regularization
        weight_PG = self_normalized(log_weight_PG, used_PG, self.pool)
        batch = batch_of(rollouts, weight_PG.reshape(-1), used_PG.reshape(-1))
        return batch, {
            **online_metrics(rollouts, rewards),
            "var/effective_sample_size": effective_sample_size(weight_PG),
            "var/weight_max": measured(weight_PG.max(), used_PG),
            "completion/advantage": advantage_PG,
            "completion/weight": weight_PG,
        }


def self_normalized(log_weight_PG: jax.Array, used_PG: jax.Array, pool: Pool) -> jax.Array:
    """Return exp(log_weight) over its mean among the used entries of the batch or prompt, detached; 0 elsewhere."""
    axis = None if pool == "batch" else 1
    share_PG = jax.nn.softmax(jnp.where(used_PG, log_weight_PG, 0.0), axis=axis, where=used_PG)
    return jax.lax.stop_gradient(jnp.where(used_PG, share_PG * used_PG.sum(axis, keepdims=True), 0.0))
