"""Pairs of completions of a prompt, the better one first, and the algorithms that learn from pairs of their own samples
(OAIF, arXiv 2402.04792).

    margin = tau ( D log pi_theta - rho D log pi_ref - (1 - rho) D log pi_t ),   D f = f(y+) - f(y-)

rho = 1 is the margin of DPO (arXiv 2305.18290, with tau its beta), rho = 0 that of REBEL (arXiv 2404.16767, with tau
its 1/eta); between them lies the margin that both KL terms of DAR give, since the normaliser of DAR's optimum
cancels: at that optimum the margin is r(y+) - r(y-).
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from pydantic.dataclasses import dataclass

from dar_jax.algorithms.base import Normalize, Online, advantages, online_metrics
from dar_jax.algorithms.losses import Metrics, batch_of, completion_logprob, masked_total, sampling_kl, squared
from dar_jax.batches import Batch, Rewards, Rollouts, measured, measured_mean
from dar_jax.settings.fields import STRICT


def pairs_of(rollouts: Rollouts, reward_PG: jax.Array, valid_PG: jax.Array) -> Batch:
    """Return a batch of pairs of neighbouring completions, E = P G / 2, R = 2, the better one first.

    `weight_E` is the difference of their rewards (0 or more, reward units); `mask_E` is True where both are scored.
    """
    reward_E2, valid_E2 = (jnp.reshape(array, (-1, 2)) for array in (reward_PG, valid_PG))
    mask_E = valid_E2.all(1)
    gain_E = jnp.where(mask_E, reward_E2[:, 1] - reward_E2[:, 0], 0.0)
    rows = batch_of(rollouts, reward_PG.reshape(-1), valid_PG.reshape(-1), reference=True)
    pairs = jax.tree.map(lambda leaf: _paired(leaf, gain_E), rows)
    return dataclasses.replace(pairs, weight_E=jnp.abs(gain_E), mask_E=mask_E)


def _paired(rows: jax.Array, gain_E: jax.Array) -> jax.Array:
    """Return rows in pairs, swapped where the second one gains."""
    pair = rows.reshape(-1, 2, *rows.shape[2:])
    return jnp.where(jnp.expand_dims(gain_E > 0, range(1, pair.ndim)), pair[:, ::-1], pair)


def margin_of(logprob_ERT: jax.Array, batch: Batch, *, tau: float, rho: float) -> jax.Array:
    """Return `margin_E`. log pi_t is not read if rho is 1, nor log pi_ref if rho is 0."""
    log_ratio_ER = completion_logprob(logprob_ERT, batch)
    for share, recalled_ERT in ((rho, batch.ref_logprob_ERT), (1 - rho, batch.sampling_logprob_ERT)):
        if share:
            assert recalled_ERT is not None
            log_ratio_ER -= share * completion_logprob(recalled_ERT, batch)
    return tau * (log_ratio_ER[:, 0] - log_ratio_ER[:, 1])


def pairwise_loss(
    loss_E: jax.Array, margin_E: jax.Array, logprob_ERT: jax.Array, batch: Batch
) -> tuple[jax.Array, Metrics]:
    """Return the loss and its metrics (names as TRL's), summed over counted examples."""
    loss = masked_total(loss_E, batch)
    logprob_ER = completion_logprob(logprob_ERT, batch)
    metrics = {
        "loss": loss,
        "rewards/margins": masked_total(margin_E, batch),
        "rewards/accuracies": masked_total((margin_E > 0).astype(margin_E.dtype), batch),
        "logprobs/chosen": masked_total(logprob_ER[:, 0], batch),
        "logprobs/rejected": masked_total(logprob_ER[:, 1], batch),
    }
    return loss, jax.lax.stop_gradient(metrics | sampling_kl(logprob_ERT, batch))


def pair_metrics(batch: Batch) -> Metrics:
    """Return the share of scored pairs, the share of ties among them, and the mean gain (reward units)."""
    tie_E = (batch.weight_E == 0).astype(jnp.float32)
    return {
        "pairs/valid_fraction": batch.mask_E.mean(dtype=jnp.float32),
        "pairs/tie_fraction": measured_mean(tie_E, batch.mask_E),
        "pairs/gain": measured_mean(batch.weight_E, batch.mask_E),
    }


@dataclass(frozen=True, kw_only=True, config=STRICT)
class OnlinePairs(Online):
    """An algorithm that pairs a prompt's completions in the order they were sampled; a group of G gives G / 2 pairs."""

    rows_per_example: ClassVar[int] = 2

    def reject_group_size(self, group_size: int) -> str | None:
        """Return why this group size cannot be used, or None if it can."""
        if group_size % 2 == 0:
            return None
        name = getattr(self, "name", "")
        return f"{name} learns from pairs of completions, got a group_size of {group_size}; make it even"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Preferences(OnlinePairs):
    """Pairs labelled by which completion is better, by rewards or by a judge that compares; ties are dropped."""

    def weigh(self, rollouts: Rollouts, rewards: Rewards) -> tuple[Batch, Metrics]:
        """Return pairs ordered by their rewards; the example's weight is the difference."""
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
    """Pairs labelled by how much better one completion is, in the unit set by `normalize`; ties count as 0."""

    normalize: Normalize = "batch"

    def weigh(self, rollouts: Rollouts, rewards: Rewards) -> tuple[Batch, Metrics]:
        """Return pairs ordered by their advantages; the example's weight is the difference."""
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

    def squared_loss(
        self, logprob_ERT: jax.Array, batch: Batch, *, tau: float, rho: float
    ) -> tuple[jax.Array, Metrics]:
        """Return the squared distance of the margin from the weight, summed over pairs."""
        margin_E = margin_of(logprob_ERT, batch, tau=tau, rho=rho)
        gain_E = jax.lax.stop_gradient(batch.weight_E)
        return pairwise_loss(squared(margin_E, gain_E), margin_E, logprob_ERT, batch)


def gains(reward_PG: jax.Array, valid_PG: jax.Array) -> jax.Array:
    """Return each completion's reward less that of its partner; 0 where one of the two has none."""
    reward_E2, valid_E2 = reward_PG.reshape(-1, 2), valid_PG.reshape(-1, 2)
    gain_E2 = jnp.where(valid_E2.all(1, keepdims=True), reward_E2 - reward_E2[:, ::-1], 0.0)
    return gain_E2.reshape(reward_PG.shape)
