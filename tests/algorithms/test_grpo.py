import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dar_jax.algorithms.grpo import GRPO
from dar_jax.algorithms.rloo import RLOO
from tests.algorithms import golden
from tests.algorithms.golden import REFERENCE, REWARD, SAMPLING, THETA, gradient_of, loss_of

CENTRED = REWARD - REWARD.mean(1, keepdims=True)
ADVANTAGE = CENTRED / CENTRED.std(1, keepdims=True)


def test_the_loss_is_the_clipped_surrogate_with_its_penalty():
    ratio, log_ref = np.exp(THETA - SAMPLING), REFERENCE - THETA
    surrogate = np.minimum(ratio * ADVANTAGE, np.clip(ratio, 0.8, 1.2) * ADVANTAGE)
    expected = -(surrogate - 0.04 * (np.exp(log_ref) - 1 - log_ref)).mean()
    np.testing.assert_allclose(loss_of(GRPO()), expected, rtol=1e-5)


def test_beyond_the_clip_there_is_no_gradient():
    moved = SAMPLING + np.array([[0.5, 0.5, -0.5, -0.5], [0.0, 0.5, 0.5, -0.5]])
    gradient = gradient_of(GRPO(kl_coef=0.0), moved).reshape(2, 4)
    going_further = ((moved > SAMPLING) & (ADVANTAGE > 0)) | ((moved < SAMPLING) & (ADVANTAGE < 0))
    assert not gradient[going_further].any()
    assert gradient[(ADVANTAGE != 0) & ~going_further].all()


def test_at_the_sampling_policy_it_is_the_policy_gradient():
    at_start = golden.rollouts(THETA, THETA)
    gradient = gradient_of(GRPO(), spoken=at_start)
    np.testing.assert_allclose(gradient, -ADVANTAGE.reshape(-1) / 8, rtol=1e-5, atol=1e-7)
    unscaled = gradient_of(GRPO(scale=False, kl_coef=0.0), spoken=at_start)
    np.testing.assert_allclose(unscaled, 3 / 4 * gradient_of(RLOO(kl_coef=0.0)), rtol=1e-5, atol=1e-7)


def test_tokens_are_averaged_within_their_completion():
    """Trap: a long completion's tokens count less each, not the completion more."""
    spoken = golden.rollouts()
    two = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf], -1) if leaf.ndim == 2 else leaf, spoken)
    batch, _ = GRPO().weigh(dataclasses.replace(two, inputs_B=spoken.inputs_B), golden.rewards())
    logprob_ERT = jnp.tile(jnp.float32(THETA).reshape(8, 1, 1), (1, 1, 2))
    np.testing.assert_allclose(GRPO().regress(logprob_ERT, batch)[0] / 8, loss_of(GRPO()), rtol=1e-6)


def test_a_group_that_agrees_has_no_advantage():
    agreed = np.array([[7.0] * 4, REWARD[1]])
    gradient = gradient_of(GRPO(kl_coef=0.0), judged=golden.rewards(agreed))
    assert not gradient[:4].any()
    assert gradient[4:].any()
    assert "2 or more" in GRPO().reject_group_size(1)


def test_the_share_at_the_clip_is_told():
    batch, _ = GRPO().weigh(golden.rollouts(), golden.rewards())
    _, metrics = GRPO().regress(jnp.float32(THETA).reshape(8, 1, 1), batch)
    ratio = np.exp(THETA - SAMPLING)
    assert metrics["surrogate/clip_fraction"] == ((ratio * ADVANTAGE) > np.clip(ratio, 0.8, 1.2) * ADVANTAGE).sum()
    assert metrics["kl/reference_k3"] == pytest.approx(
        (np.exp(REFERENCE - THETA) - 1 - (REFERENCE - THETA)).sum(), rel=1e-5
    )
