import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from dar_jax.algorithms.base import (
    completion_metrics,
    reference_kl_metrics,
    reward_metrics,
    sampler_metrics,
)
from dar_jax.batches import Inputs, Rewards, Rollouts

MASK_BT = np.array([[1, 1, 1], [1, 0, 0]], bool)
SAMPLING_BT = np.array([[-1.0, -2.0, -3.0], [-4.0, 7.0, np.nan]], np.float32)
REF_BT = np.array([[-1.5, -1.0, -3.25], [-2.0, np.nan, 7.0]], np.float32)

ROLLOUTS = Rollouts(
    inputs_B=Inputs(token_BT=jnp.zeros((2, 5), jnp.int32), mask_BS=jnp.ones((2, 5), bool)),
    mask_completion_BT=jnp.asarray(MASK_BT),
    ended_B=jnp.array([False, True]),
    sampler_logprob_BT=jnp.asarray(SAMPLING_BT).at[0, 1].add(0.5),
    sampling_logprob_BT=jnp.asarray(SAMPLING_BT),
    ref_logprob_BT=jnp.asarray(REF_BT),
)


def floats(metrics):
    return {key: float(value) for key, value in metrics.items()}


def rewards(reward_PG, valid_PG=None):
    reward_PG = np.asarray(reward_PG, np.float32)
    valid_PG = np.isfinite(reward_PG) if valid_PG is None else valid_PG
    return Rewards(reward_PG=jnp.asarray(reward_PG), valid_PG=jnp.asarray(valid_PG))


def test_reward_metrics_are_those_of_numpy():
    reward_PG = np.random.default_rng(0).uniform(1, 10, (5, 4)).astype(np.float32)
    assert floats(reward_metrics(rewards(reward_PG))) == {
        "rewards/mean": pytest.approx(reward_PG.mean(), rel=1e-5),
        "rewards/std": pytest.approx(reward_PG.std(), rel=1e-5),
        "rewards/within_group_std": pytest.approx(np.sqrt(reward_PG.var(1).mean()), rel=1e-5),
        "rewards/valid_fraction": 1.0,
    }


def test_reward_metrics_leave_failed_judgements_out():
    holed = floats(reward_metrics(rewards([[1.0, 3.0, np.nan], [np.nan, 0.0, 4.0]])))
    scored = floats(reward_metrics(rewards([[1.0, 3.0], [0.0, 4.0]])))
    assert holed == pytest.approx(scored | {"rewards/valid_fraction": 4 / 6})


def test_reward_metrics_without_any_reward_are_not_numbers():
    found = floats(reward_metrics(rewards(np.full((2, 2), np.nan))))
    assert found.pop("rewards/valid_fraction") == 0.0
    assert found.keys() == {"rewards/mean", "rewards/std", "rewards/within_group_std"}
    assert all(np.isnan(value) for value in found.values())


def test_completion_lengths_count_eos_and_no_padding():
    assert floats(completion_metrics(ROLLOUTS)) == {
        "completions/mean_length": 2.0,
        "completions/min_length": 1.0,
        "completions/max_length": 3.0,
        "completions/clipped_ratio": 0.5,
    }


def test_sampler_metrics_averaged_over_padding():
    assert floats(sampler_metrics(ROLLOUTS)) == {"sampler/logprob_diff_mean": 0.125, "sampler/logprob_diff_max": 0.5}


def test_sampler_gap_is_absent_for_recorded_completions():
    assert sampler_metrics(dataclasses.replace(ROLLOUTS, sampler_logprob_BT=None)) == {}


def test_reference_kl_is_k1_and_k3_a_completion():
    log_r_BT = np.where(MASK_BT, REF_BT - SAMPLING_BT, 0.0)
    metrics = floats(reference_kl_metrics(ROLLOUTS))
    assert metrics["objective/kl"] == pytest.approx(-log_r_BT.sum(1).mean(), rel=1e-6)
    assert metrics["objective/kl_k3"] == pytest.approx((np.exp(log_r_BT) - 1 - log_r_BT).sum(1).mean(), rel=1e-5)
    assert metrics["objective/kl_k3"] > 0


def test_reference_kl_is_exactly_zero_for_equal_policies():
    same = dataclasses.replace(ROLLOUTS, ref_logprob_BT=ROLLOUTS.sampling_logprob_BT)
    assert floats(reference_kl_metrics(same)) == {"objective/kl": 0.0, "objective/kl_k3": 0.0}


def test_k1_and_k3_estimate_the_kl_of_known_distributions():
    """Draw from pi_t over three tokens: both estimates meet the KL in closed form."""
    p, q = np.array([0.7, 0.2, 0.1]), np.array([0.4, 0.4, 0.2])
    drawn_B1 = np.random.default_rng(1).choice(3, (40_000, 1), p=p)
    rollouts = Rollouts(
        inputs_B=Inputs(token_BT=jnp.asarray(drawn_B1), mask_BS=jnp.ones(drawn_B1.shape, bool)),
        mask_completion_BT=jnp.ones(drawn_B1.shape, bool),
        ended_B=jnp.ones(len(drawn_B1), bool),
        sampling_logprob_BT=jnp.asarray(np.log(p)[drawn_B1]),
        ref_logprob_BT=jnp.asarray(np.log(q)[drawn_B1]),
    )
    for value in floats(reference_kl_metrics(rollouts)).values():
        assert value == pytest.approx((p * np.log(p / q)).sum(), abs=0.01)
