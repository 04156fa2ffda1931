"""What every online algorithm reports of a batch before it learns from it. Names follow TRL's."""

import jax
import jax.numpy as jnp

from dar_jax.algorithms.regression import Metrics, k3
from dar_jax.batches import Rewards, Rollouts, measured_mean


def reward_metrics(rewards: Rewards) -> Metrics:
    """Describe the rewards of the scored completions, in the rubric's units."""
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
    """Describe lengths (tokens, EOS included) and the share cut off before EOS."""
    length_B = rollouts.mask_completion_BT.sum(1).astype(jnp.float32)
    return {
        "completions/mean_length": length_B.mean(),
        "completions/min_length": length_B.min(),
        "completions/max_length": length_B.max(),
        "completions/clipped_ratio": 1.0 - rollouts.ended_B.mean(dtype=jnp.float32),
    }


def sampler_gap_metrics(rollouts: Rollouts) -> Metrics:
    """Measure how far the decoder's log-probs lie from the scorer's, nats a token."""
    if rollouts.sampler_logprob_BT is None or rollouts.sampling_logprob_BT is None:
        return {}
    mask_BT = rollouts.mask_completion_BT
    gap_BT = jnp.abs(rollouts.sampler_logprob_BT - rollouts.sampling_logprob_BT)
    gap_BT = jnp.where(mask_BT, gap_BT, 0.0)
    return {"sampler/gap_mean": measured_mean(gap_BT, mask_BT), "sampler/gap_max": gap_BT.max()}


def reference_kl_metrics(rollouts: Rollouts) -> Metrics:
    """Estimate KL(pi_t || pi_ref), nats a completion: k1 (unbiased) and k3 (non-negative)."""
    log_ratio_BT = token_log_ref_over_sampling(rollouts)
    return {
        "objective/kl": -log_ratio_BT.sum(1).mean(),
        "objective/kl_k3": k3(log_ratio_BT).sum(1).mean(),
    }


def token_log_ref_over_sampling(rollouts: Rollouts) -> jax.Array:
    """Return log pi_ref - log pi_t of each of the completion's tokens, `_BT`, nats; 0 elsewhere."""
    assert rollouts.sampling_logprob_BT is not None
    assert rollouts.ref_logprob_BT is not None
    return jnp.where(rollouts.mask_completion_BT, rollouts.ref_logprob_BT - rollouts.sampling_logprob_BT, 0.0)


def log_ref_over_sampling(rollouts: Rollouts, *, per_token: bool = False) -> jax.Array:
    """Return log pi_ref(y|x) - log pi_t(y|x), `_B`, nats: summed over the completion's tokens, or their mean."""
    total_B = token_log_ref_over_sampling(rollouts).sum(1)
    return total_B / jnp.maximum(rollouts.mask_completion_BT.sum(1), 1) if per_token else total_B
