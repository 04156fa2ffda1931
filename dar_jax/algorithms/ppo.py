"""Proximal Policy Optimization (Schulman et al., arXiv 1707.06347) with a value head, as of InstructGPT.

    r_t    = score at the completion's last token, 0 before it, less kl_coef log pi_t/pi_ref of the token
    A_t    = sum over l of (discount lam)^l (r_{t+l} + discount V(s_{t+l+1}) - V(s_{t+l}))      (arXiv 1506.02438)
    L      = - mean of min(q A, clip(q, 1 - clip, 1 + clip) A) + value_coef mean (V(s_t) - (A_t + V_old(s_t)))^2 / 2

with q = pi_theta / pi_t of a token and means over tokens, then completions. The value head is linear, on the policy's
last hidden state before each token, and starts at 0. It is a mean over the hidden numbers: a step of Adam then moves it
alike at every width, where a sum would need a learning rate that falls as 1 / width (arXiv 2203.03466).
"""

import dataclasses
import functools as ft
from typing import Literal

import jax
import jax.numpy as jnp
import optax
from pydantic import Field
from pydantic.dataclasses import dataclass

from dar_jax.algorithms.base import Head, HeadParams, Online, advantages, online_metrics, token_log_ref_over_sampling
from dar_jax.algorithms.losses import Metrics, batch_of, clipped_surrogate, masked_total, sampling_kl, sequence_mean
from dar_jax.batches import Batch, Rewards, Rollouts, masked_mean, measured, measured_mean
from dar_jax.settings.fields import STRICT, Positive, PositiveOrZero, Share


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PPO(Online):
    """PPO; `kl_coef` is in reward units a nat. The head learns by Adam at `value_learning_rate`, about as many reward
    units as an update may move a value; its error, times `value_coef`, also moves the policy's hidden states.
    """

    name: Literal["ppo"] = "ppo"
    clip: Positive = 0.2
    kl_coef: PositiveOrZero = 0.05
    discount: Share = Field(default=1.0, gt=0)
    lam: Share = 0.95
    value_coef: Positive = 0.1
    value_learning_rate: Positive = 3.0

    @property
    def head(self) -> Head:
        """Return the value head."""
        return Head(init=_no_value, apply=_value, optimizer=optax.adam(self.value_learning_rate))

    def weigh(self, rollouts: Rollouts, rewards: Rewards) -> tuple[Batch, Metrics]:
        """Return a batch with token advantages, z-scored over the batch, and returns; and metrics."""
        mask_BT, value_BT = rollouts.mask_completion_BT, rollouts.sampling_value_BT
        reward_PG, valid_B = self.penalized(rollouts, rewards), rewards.valid_PG.reshape(-1)
        reward_BT = self._token_rewards(jnp.where(valid_B, reward_PG.reshape(-1), 0.0), rollouts)
        assert value_BT is not None
        value_BT = jnp.where(mask_BT, value_BT, 0.0)
        advantage_BT = generalized_advantages(reward_BT, value_BT, mask_BT, self.discount, self.lam)
        return_BT = advantage_BT + value_BT
        counted_BT = mask_BT & valid_B[:, None]
        normalized_BT, _ = advantages(advantage_BT, counted_BT, baseline="batch", normalize="batch")
        batch = dataclasses.replace(
            batch_of(rollouts, valid_B.astype(jnp.float32), valid_B),
            advantage_ERT=normalized_BT[:, None],
            return_ERT=return_BT[:, None],
        )
        mean_B = jnp.where(mask_BT, normalized_BT, 0.0).sum(1) / jnp.maximum(mask_BT.sum(1), 1)
        mean_PG = mean_B.reshape(reward_PG.shape)
        return batch, {
            **online_metrics(rollouts, rewards),
            "value/mean": measured_mean(value_BT, counted_BT),
            "value/explained_variance": measured(_explained(return_BT, value_BT, counted_BT), counted_BT),
            "completion/advantage": mean_PG,
            "completion/weight": mean_PG,
        }

    def regress(  # type: ignore[override]  # only an algorithm with a head gets its values
        self, logprob_ERT: jax.Array, batch: Batch, value_ERT: jax.Array
    ) -> tuple[jax.Array, Metrics]:
        """Return the clipped surrogate loss plus the value loss, summed over examples."""
        assert batch.advantage_ERT is not None
        assert batch.return_ERT is not None
        surrogate_ERT, metrics = clipped_surrogate(logprob_ERT, batch, batch.advantage_ERT, self.clip)
        error_ERT = (value_ERT - batch.return_ERT) ** 2 / 2
        value = masked_total(sequence_mean(error_ERT, batch), batch)
        policy = -masked_total(sequence_mean(surrogate_ERT, batch), batch)
        loss = policy + self.value_coef * value
        metrics |= {"loss": loss, "loss/policy": policy, "loss/value": value}
        return loss, jax.lax.stop_gradient(metrics | sampling_kl(logprob_ERT, batch))

    def _token_rewards(self, score_B: jax.Array, rollouts: Rollouts) -> jax.Array:
        mask_BT = rollouts.mask_completion_BT
        last_BT = mask_BT & (jnp.cumsum(mask_BT[:, ::-1], 1)[:, ::-1] == 1)
        return jnp.where(last_BT, score_B[:, None], 0.0) + self.kl_coef * token_log_ref_over_sampling(rollouts)


def generalized_advantages(
    reward_BT: jax.Array, value_BT: jax.Array, mask_BT: jax.Array, discount: float, lam: float
) -> jax.Array:
    """Return the generalised advantage of each token (arXiv 1506.02438); nothing follows a completion's last."""
    next_BT = jnp.pad(jnp.where(mask_BT, value_BT, 0.0)[:, 1:], ((0, 0), (0, 1)))
    surprise_BT = jnp.where(mask_BT, reward_BT + discount * next_BT - value_BT, 0.0)

    def back(after_B: jax.Array, surprise_B: jax.Array) -> tuple[jax.Array, jax.Array]:
        now_B = surprise_B + discount * lam * after_B
        return now_B, now_B

    _, advantage_TB = jax.lax.scan(back, jnp.zeros_like(surprise_BT[:, 0]), surprise_BT.T, reverse=True)
    return jnp.where(mask_BT, advantage_TB.T, 0.0)


def _no_value(width: int) -> HeadParams:
    return {"slope": jnp.zeros(width), "offset": jnp.zeros(())}


def _value(head: HeadParams, hidden_BTD: jax.Array) -> jax.Array:
    """Return V(s_t), in reward units."""
    total_BT = jnp.einsum("BTD,D->BT", hidden_BTD.astype(jnp.float32), head["slope"]) + head["offset"]
    return total_BT / hidden_BTD.shape[-1]


def _explained(return_BT: jax.Array, value_BT: jax.Array, mask_BT: jax.Array) -> jax.Array:
    """Return 1 - var(returns - values) / var(returns)."""
    variance = ft.partial(_variance, mask_BT=mask_BT)
    return 1 - variance(return_BT - value_BT) / jnp.maximum(variance(return_BT), 1e-8)


def _variance(value_BT: jax.Array, mask_BT: jax.Array) -> jax.Array:
    return masked_mean((value_BT - masked_mean(value_BT, mask_BT)) ** 2, mask_BT)
