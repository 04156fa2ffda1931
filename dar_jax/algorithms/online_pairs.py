"""What the algorithms share that learn from pairs of their own samples, judged online (OAIF, arXiv 2402.04792)."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from pydantic.dataclasses import dataclass

from dar_jax.algorithms.advantages import Normalize, advantages
from dar_jax.algorithms.online import Online, online_metrics
from dar_jax.algorithms.preference_losses import squared
from dar_jax.algorithms.preference_margin import margin_of, pair_metrics, pairs_of, pairwise_loss
from dar_jax.algorithms.regression import Metrics
from dar_jax.batches import Batch, Rewards, Rollouts, measured
from dar_jax.settings.fields import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class OnlinePairs(Online):
    """Completions of a prompt, two by two in the order they were sampled; a group of G gives G / 2 pairs."""

    rows_per_example: ClassVar[int] = 2

    def reject_group_size(self, group_size: int) -> str | None:
        """Say why this group size cannot be learnt from, or None."""
        if group_size % 2 == 0:
            return None
        return f"the completions of a prompt are learnt from in pairs, got a group_size of {group_size}; make it even"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Preferences(OnlinePairs):
    """Pairs of which the better counts and by how much does not, by rewards or a judge that compares; ties teach
    nothing.
    """

    def weigh(self, rollouts: Rollouts, rewards: Rewards) -> tuple[Batch, Metrics]:
        """Order each pair by its rewards."""
        reward_PG = self.penalized(rollouts, rewards)
        batch = pairs_of(rollouts, reward_PG, rewards.valid_PG)
        gain_PG = gains(reward_PG, rewards.valid_PG)
        return dataclasses.replace(batch, mask_E=batch.mask_E & (batch.weight_E > 0)), {
            **online_metrics(rollouts, rewards),
            **pair_metrics(batch),
            "completion/advantage": gain_PG,
            "completion/weight": jnp.sign(gain_PG),
        }


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RewardDifferences(OnlinePairs):
    """Pairs of which it counts by how much one is better; `normalize` sets the unit. Ties teach that, too."""

    normalize: Normalize = "batch"

    def weigh(self, rollouts: Rollouts, rewards: Rewards) -> tuple[Batch, Metrics]:
        """Order each pair by its advantages; the example's weight is their difference."""
        reward_PG = self.penalized(rollouts, rewards)
        advantage_PG, used_PG = advantages(reward_PG, rewards.valid_PG, normalize=self.normalize)
        batch, gain_PG = pairs_of(rollouts, advantage_PG, used_PG), gains(advantage_PG, used_PG)
        return batch, {
            **online_metrics(rollouts, rewards),
            **pair_metrics(batch),
            "advantages/abs_max": measured(jnp.abs(advantage_PG).max(), used_PG),
            "completion/advantage": advantage_PG,
            "completion/weight": gain_PG,
        }

    def regressed(self, logprob_ERT: jax.Array, batch: Batch, *, tau: float, rho: float) -> tuple[jax.Array, Metrics]:
        """Return the squared distance of the margin from the difference, summed over pairs."""
        margin_E = margin_of(logprob_ERT, batch, tau=tau, rho=rho)
        gain_E = jax.lax.stop_gradient(batch.weight_E)
        return pairwise_loss(squared(margin_E, gain_E), margin_E, logprob_ERT, batch)


def gains(reward_PG: jax.Array, valid_PG: jax.Array) -> jax.Array:
    """Return what each completion's reward is above that of the other of its pair; 0 where one has none."""
    reward_E2, valid_E2 = reward_PG.reshape(-1, 2), valid_PG.reshape(-1, 2)
    gain_E2 = jnp.where(valid_E2.all(1, keepdims=True), reward_E2 - reward_E2[:, ::-1], 0.0)
    return gain_E2.reshape(reward_PG.shape)
