"""What algorithms share: their declarations, advantages, and the metrics of a batch before it is learned from.

An algorithm may carry a few numbers from step to step (`initial_memory`, `updated_memory`), and may train a head on the
policy's hidden states (`head`). A checkpoint keeps both.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import optax
from pydantic.dataclasses import dataclass

from dar_jax.algorithms.losses import Metrics, batch_of, k3, weighted_regression
from dar_jax.batches import Batch, Rewards, Rollouts, measured, measured_mean
from dar_jax.settings.fields import STRICT, PositiveOrZero

HeadParams = dict[str, jax.Array]
Baseline = Literal["prompt", "leave_one_out", "batch"]
Normalize = Literal["batch", "prompt", "none"]
Deviation = Literal["population", "sample"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Head:
    """A trainable head on the hidden states: `init(width)`, `apply(params, hidden_BTD) -> _BT`, `optimizer`.

    `hidden_BTD` is the last hidden state before each token of the completion. `weigh` finds the head's values at pi_t
    in `rollouts.sampling_value_BT`; `regress` gets those at pi_theta.
    """

    init: Callable[[int], HeadParams]
    apply: Callable[[HeadParams, jax.Array], jax.Array]
    optimizer: optax.GradientTransformation


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Stateless:
    """Defaults of every algorithm: no memory, no head, one completion an example, weighted regression for a loss."""

    needs: ClassVar[frozenset[str]] = frozenset()
    rows_per_example: ClassVar[int] = 1
    min_group_size: ClassVar[int] = 1

    def initial_memory(self) -> dict[str, float]:
        """Return the numbers that the first step starts from; `weigh` gets them as `memory` unless empty."""
        return {}

    def updated_memory(self, memory: Mapping[str, float], metrics: Mapping[str, float]) -> dict[str, float]:
        """Return the memory of the next step from the metrics of the last."""
        return dict(memory)

    @property
    def head(self) -> Head | None:
        """Return the trainable head, or None."""
        return None

    def reject_group_size(self, group_size: int) -> str | None:
        """Return why this group size cannot be used, or None if it can."""
        if group_size >= self.min_group_size:
            return None
        name = getattr(self, "name", "")
        return f"{name} compares the completions of a prompt, got a group_size of {group_size}; sample 2 or more"

    def regress(self, logprob_ERT: jax.Array, batch: Batch) -> tuple[jax.Array, Metrics]:
        """Return the weighted regression loss, summed over examples."""
        return weighted_regression(logprob_ERT, batch)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Recorded(Stateless):
    """An offline algorithm: one example a prompt from recorded completions, no judge, no sampler."""

    def examples(self, prompts: int, group_size: int) -> int:
        """Return the number of examples that `weigh` makes: one a prompt."""
        return prompts


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Online(Stateless):
    """An online algorithm: it learns from judged samples of its own.

    `missing_eos_penalty` (reward units, off) is subtracted from the reward of a truncated completion. log pi_ref is
    computed for all of them, as KL(pi_t || pi_ref) is what they are compared by.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"rewards", "sampling", "reference"})

    missing_eos_penalty: PositiveOrZero = 0.0

    def examples(self, prompts: int, group_size: int) -> int:
        """Return the number of examples that `weigh` makes of P prompts with G completions each."""
        return prompts * group_size // self.rows_per_example

    def penalized(self, rollouts: Rollouts, rewards: Rewards) -> jax.Array:
        """Return `reward_PG`, less the penalty where EOS is missing."""
        ended_PG = rollouts.ended_B.reshape(rewards.reward_PG.shape)
        return rewards.reward_PG - self.missing_eos_penalty * ~ended_PG


def advantages(
    reward_PG: jax.Array,
    valid_PG: jax.Array,
    *,
    baseline: Baseline = "prompt",
    normalize: Normalize = "batch",
    deviation: Deviation = "population",
) -> tuple[jax.Array, jax.Array]:
    """Return `advantage_PG`, rewards less a baseline and normalized, and `used_PG`, the entries that have one.

    A per-prompt baseline compares completions of one prompt, so a group with fewer than two scored members has no
    advantage. With one completion a prompt (G = 1) the batch mean is the baseline (2504.14177 reports DAR robust at
    K = 1, where the prompt's own mean would leave nothing).
    """
    if reward_PG.shape[1] == 1:
        baseline, normalize = "batch", "none" if normalize == "none" else "batch"
    used_PG = valid_PG & (valid_PG.sum(1, keepdims=True) >= (1 if baseline == "batch" else 2))
    reward_PG = jnp.where(used_PG, reward_PG, 0.0)
    centred_PG = jnp.where(used_PG, reward_PG - _baseline(reward_PG, used_PG, baseline), 0.0)
    # Rewards that agree to rounding carry no signal: dividing their noise by itself would invent one.
    noise = 8 * jnp.finfo(reward_PG.dtype).eps * jnp.abs(reward_PG).max() + 1e-8
    if normalize == "none":
        return jnp.where(jnp.abs(centred_PG) <= noise, 0.0, centred_PG), used_PG
    axis = 1 if normalize == "prompt" else None
    return _standardized(centred_PG, used_PG, axis, deviation, noise), used_PG


def _baseline(reward_PG: jax.Array, used_PG: jax.Array, baseline: Baseline) -> jax.Array:
    axis = None if baseline == "batch" else 1
    total, count = reward_PG.sum(axis, keepdims=True), used_PG.sum(axis, keepdims=True)
    if baseline == "leave_one_out":
        return (total - reward_PG) / jnp.maximum(count - 1, 1)
    return total / jnp.maximum(count, 1)


def _standardized(
    centred_PG: jax.Array, used_PG: jax.Array, axis: int | None, deviation: Deviation, noise: jax.Array
) -> jax.Array:
    count = used_PG.sum(axis, keepdims=True)
    mean = centred_PG.sum(axis, keepdims=True) / jnp.maximum(count, 1)
    residual_PG = jnp.where(used_PG, centred_PG - mean, 0.0)
    divisor = count - 1 if deviation == "sample" else count
    std = jnp.sqrt((residual_PG**2).sum(axis, keepdims=True) / jnp.maximum(divisor, 1))
    return jnp.where(std > noise, residual_PG / jnp.where(std > noise, std, 1.0), 0.0)


def weighted_batch(
    rollouts: Rollouts,
    rewards: Rewards,
    advantage_PG: jax.Array,
    weight_PG: jax.Array,
    used_PG: jax.Array,
    *,
    reference: bool = False,
) -> tuple[Batch, Metrics]:
    """Return a batch of single completions with these weights, and what every online algorithm reports of it.

    `reference` keeps log pi_ref in the batch for the loss.
    """
    return batch_of(rollouts, weight_PG.reshape(-1), used_PG.reshape(-1), reference=reference), {
        **online_metrics(rollouts, rewards),
        "advantages/abs_max": measured(jnp.abs(advantage_PG).max(), used_PG),
        "completion/advantage": advantage_PG,
        "completion/weight": weight_PG,
    }


def log_ref_over_sampling(rollouts: Rollouts, *, per_token: bool = False) -> jax.Array:
    """Return log pi_ref(y|x) - log pi_t(y|x), `_B`, nats: the sum over the completion's tokens, or their mean."""
    total_B = token_log_ref_over_sampling(rollouts).sum(1)
    return total_B / jnp.maximum(rollouts.mask_completion_BT.sum(1), 1) if per_token else total_B


def token_log_ref_over_sampling(rollouts: Rollouts) -> jax.Array:
    """Return log pi_ref - log pi_t of each token of the completion, `_BT`, nats; 0 elsewhere."""
    assert rollouts.sampling_logprob_BT is not None
    assert rollouts.ref_logprob_BT is not None
    return jnp.where(rollouts.mask_completion_BT, rollouts.ref_logprob_BT - rollouts.sampling_logprob_BT, 0.0)


def online_metrics(rollouts: Rollouts, rewards: Rewards) -> Metrics:
    """Return metrics of rewards, completions, the sampler and the reference; names follow TRL's."""
    return {
        **reward_metrics(rewards),
        **completion_metrics(rollouts),
        **sampler_metrics(rollouts),
        **reference_kl_metrics(rollouts),
    }


def reward_metrics(rewards: Rewards) -> Metrics:
    """Return metrics of the rewards of scored completions, in the rubric's units."""
    valid_PG = rewards.valid_PG
    reward_PG = jnp.where(valid_PG, rewards.reward_PG, 0.0)
    mean = measured_mean(reward_PG, valid_PG)
    group_mean_P1 = reward_PG.sum(1, keepdims=True) / jnp.maximum(valid_PG.sum(1, keepdims=True), 1)
    return {
        "rewards/mean": mean,
        "rewards/std": jnp.sqrt(measured_mean((reward_PG - mean) ** 2, valid_PG)),
        "rewards/within_group_std": jnp.sqrt(measured_mean((reward_PG - group_mean_P1) ** 2, valid_PG)),
        "rewards/valid_fraction": valid_PG.mean(dtype=jnp.float32),
    }


def completion_metrics(rollouts: Rollouts) -> Metrics:
    """Return lengths of the completions (tokens, EOS included) and the share truncated before EOS."""
    length_B = rollouts.mask_completion_BT.sum(1).astype(jnp.float32)
    return {
        "completions/mean_length": length_B.mean(),
        "completions/min_length": length_B.min(),
        "completions/max_length": length_B.max(),
        "completions/clipped_ratio": 1.0 - rollouts.ended_B.mean(dtype=jnp.float32),
    }


def sampler_metrics(rollouts: Rollouts) -> Metrics:
    """Return the absolute difference of the decoder's log-probs from the scorer's, nats a token."""
    if rollouts.sampler_logprob_BT is None or rollouts.sampling_logprob_BT is None:
        return {}
    mask_BT = rollouts.mask_completion_BT
    diff_BT = jnp.where(mask_BT, jnp.abs(rollouts.sampler_logprob_BT - rollouts.sampling_logprob_BT), 0.0)
    return {"sampler/logprob_diff_mean": measured_mean(diff_BT, mask_BT), "sampler/logprob_diff_max": diff_BT.max()}


def reference_kl_metrics(rollouts: Rollouts) -> Metrics:
    """Return estimates of KL(pi_t || pi_ref), nats a completion: k1 (unbiased) and k3 (non-negative)."""
    log_ratio_BT = token_log_ref_over_sampling(rollouts)
    return {"objective/kl": -log_ratio_BT.sum(1).mean(), "objective/kl_k3": k3(log_ratio_BT).sum(1).mean()}
