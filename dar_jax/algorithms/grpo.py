"""Group Relative Policy Optimization (DeepSeekMath, arXiv 2402.03300).

    A_i = (r_i - mean of the group) / deviation of the group
    L(theta) = - mean over completions, mean over tokens of
               min(q A, clip(q, 1 - clip, 1 + clip) A) - kl_coef (pi_ref/pi_theta - 1 - log pi_ref/pi_theta)

with q = pi_theta / pi_t of a token.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from pydantic.dataclasses import dataclass

from dar_jax.algorithms.advantages import advantages
from dar_jax.algorithms.online import Online, online_metrics, two_or_more
from dar_jax.algorithms.regression import Metrics, batch_of, k3, log_ratio, masked_total, sampling_kl
from dar_jax.algorithms.surrogate import clipped_surrogate, sequence_mean
from dar_jax.batches import Batch, Rewards, Rollouts, measured
from dar_jax.settings.fields import STRICT, Positive, PositiveOrZero


@dataclass(frozen=True, kw_only=True, config=STRICT)
class GRPO(Online):
    """GRPO at its paper's settings. `scale` false leaves the group's deviation out (Dr. GRPO, arXiv 2503.20783)."""

    name: Literal["grpo"] = "grpo"
    clip: Positive = 0.2
    kl_coef: PositiveOrZero = 0.04
    scale: bool = True

    def reject_group_size(self, group_size: int) -> str | None:
        """Say why this group size cannot be learnt from, or None."""
        return two_or_more(group_size, self.name)

    def weigh(self, rollouts: Rollouts, rewards: Rewards) -> tuple[Batch, Metrics]:
        """Turn rewards into advantages within their groups, the examples' weights."""
        reward_PG = self.penalized(rollouts, rewards)
        normalize: Literal["prompt", "none"] = "prompt" if self.scale else "none"
        advantage_PG, used_PG = advantages(reward_PG, rewards.valid_PG, normalize=normalize)
        batch = batch_of(rollouts, advantage_PG.reshape(-1), used_PG.reshape(-1), reference=True)
        return batch, {
            **online_metrics(rollouts, rewards),
            "advantages/abs_max": measured(jnp.abs(advantage_PG).max(), used_PG),
            "advantages/used_fraction": used_PG.mean(dtype=jnp.float32),
            "completion/advantage": advantage_PG,
            "completion/weight": advantage_PG,
        }

    def regress(self, logprob_ERT: jax.Array, batch: Batch) -> tuple[jax.Array, Metrics]:
        """Return the surrogate's loss with its KL penalty, summed over examples."""
        surrogate_ERT, metrics = clipped_surrogate(logprob_ERT, batch, batch.weight_E[:, None, None], self.clip)
        kl_ERT = k3(log_ratio(batch.ref_logprob_ERT, logprob_ERT, batch))
        loss_E = sequence_mean(self.kl_coef * kl_ERT - surrogate_ERT, batch)
        loss = masked_total(loss_E, batch)
        metrics |= {"loss": loss, "kl/reference_k3": masked_total(kl_ERT.sum((1, 2)), batch)}
        return loss, jax.lax.stop_gradient(metrics | sampling_kl(logprob_ERT, batch))
