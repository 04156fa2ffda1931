"""Group Relative Policy Optimization (DeepSeekMath, arXiv 2402.03300).

    A_i = (r_i - mean of the group) / deviation of the group
    L(theta) = - mean over completions, mean over tokens of
               min(q A, clip(q, 1 - clip, 1 + clip) A) - kl_coef (pi_ref/pi_theta - 1 - log pi_ref/pi_theta)

with q = pi_theta / pi_t of a token.
"""

from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from pydantic.dataclasses import dataclass

from dar_jax.algorithms.base import Online, advantages, weighted_batch
from dar_jax.algorithms.losses import (
    Metrics,
    clipped_surrogate,
    k3,
    log_ratio,
    masked_total,
    sampling_kl,
    sequence_mean,
)
from dar_jax.batches import Batch, Rewards, Rollouts
from dar_jax.settings.fields import STRICT, Positive, PositiveOrZero


@dataclass(frozen=True, kw_only=True, config=STRICT)
class GRPO(Online):
    """GRPO at its paper's settings. `scale` false leaves the group's deviation out (Dr. GRPO, arXiv 2503.20783)."""

    min_group_size: ClassVar[int] = 2

    name: Literal["grpo"] = "grpo"
    clip: Positive = 0.2
    kl_coef: PositiveOrZero = 0.04
    scale: bool = True

    def weigh(self, rollouts: Rollouts, rewards: Rewards) -> tuple[Batch, Metrics]:
        """Return a batch whose weights are advantages within the groups, and metrics."""
        reward_PG = self.penalized(rollouts, rewards)
        normalize: Literal["prompt", "none"] = "prompt" if self.scale else "none"
        advantage_PG, used_PG = advantages(reward_PG, rewards.valid_PG, normalize=normalize)
        batch, metrics = weighted_batch(rollouts, rewards, advantage_PG, advantage_PG, used_PG, reference=True)
        return batch, metrics | {"advantages/used_fraction": used_PG.mean(dtype=jnp.float32)}

    def regress(self, logprob_ERT: jax.Array, batch: Batch) -> tuple[jax.Array, Metrics]:
        """Return the clipped surrogate loss with the KL penalty, summed over examples."""
        surrogate_ERT, metrics = clipped_surrogate(logprob_ERT, batch, batch.weight_E[:, None, None], self.clip)
        kl_ERT = k3(log_ratio(batch.ref_logprob_ERT, logprob_ERT, batch))
        loss_E = sequence_mean(self.kl_coef * kl_ERT - surrogate_ERT, batch)
        loss = masked_total(loss_E, batch)
        metrics |= {"loss": loss, "kl/reference_k3": masked_total(kl_ERT.sum((1, 2)), batch)}
        return loss, jax.lax.stop_gradient(metrics | sampling_kl(logprob_ERT, batch))
