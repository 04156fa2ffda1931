import numpy as np

from dar_jax.algorithms.reinforce import Reinforce
from dar_jax.algorithms.rloo import RLOO
from tests.algorithms import golden
from tests.algorithms.golden import REFERENCE, REWARD, SAMPLING, THETA, gradient_of, loss_of

SHAPED = REWARD - 0.05 * (SAMPLING - REFERENCE)


def test_the_baseline_is_the_batchs_mean():
    advantage = SHAPED - SHAPED.mean()
    np.testing.assert_allclose(loss_of(Reinforce()), -(advantage * THETA).mean(), rtol=1e-5)
    np.testing.assert_allclose(gradient_of(Reinforce()), -advantage.reshape(-1) / 8, rtol=1e-5)


def test_without_a_kl_penalty_rewards_alone_count():
    advantage = REWARD - REWARD.mean()
    np.testing.assert_allclose(gradient_of(Reinforce(kl_coef=0.0)), -advantage.reshape(-1) / 8, rtol=1e-5)
    scaled = gradient_of(Reinforce(kl_coef=0.0, normalize="batch"))
    np.testing.assert_allclose(scaled, -(advantage / advantage.std()).reshape(-1) / 8, rtol=1e-5)


def test_a_baseline_changes_no_expected_gradient():
    """At theta = theta_t the expected score is 0: any constant taken from the rewards leaves the expectation alone."""
    shifted = gradient_of(Reinforce(), judged=golden.rewards(REWARD + 100))
    np.testing.assert_allclose(shifted, gradient_of(Reinforce()), rtol=1e-3, atol=1e-5)
    assert abs(gradient_of(Reinforce()).sum()) < 1e-5


def test_rloo_takes_the_mean_of_the_others():
    others = (SHAPED.sum(1, keepdims=True) - SHAPED) / 3
    advantage = SHAPED - others
    np.testing.assert_allclose(loss_of(RLOO()), -(advantage * THETA).mean(), rtol=1e-5)


def test_rloo_is_four_thirds_of_the_distance_from_the_prompts_mean():
    centred = SHAPED - SHAPED.mean(1, keepdims=True)
    np.testing.assert_allclose(gradient_of(RLOO()), -4 / 3 * centred.reshape(-1) / 8, rtol=1e-5)
    assert Reinforce().reject_group_size(1) is None
    assert "2 or more" in RLOO().reject_group_size(1)
