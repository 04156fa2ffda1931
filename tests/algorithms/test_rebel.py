"""REBEL and the two losses that share DAR's optimum."""

import numpy as np
import pytest

from dar_jax.algorithms.dual_dpo import DualDPO
from dar_jax.algorithms.dual_rebel import DualREBEL
from dar_jax.algorithms.online_dpo import OnlineDPO
from dar_jax.algorithms.rebel import REBEL
from tests.algorithms import golden
from tests.algorithms.golden import REFERENCE, REWARD, SAMPLING, THETA, Z_SCORED, differences, gradient_of, loss_of

GAIN = differences(Z_SCORED)


def test_rebel_regresses_the_difference_of_rewards():
    for eta in (1.0, 4.0):
        expected = ((differences(THETA - SAMPLING) / eta - GAIN) ** 2).mean()
        np.testing.assert_allclose(loss_of(REBEL(eta=eta)), expected, rtol=1e-5)


def test_equal_rewards_hold_two_completions_together():
    even = golden.rewards(np.full((2, 4), 5.0))
    np.testing.assert_allclose(loss_of(REBEL(), judged=even), (differences(THETA - SAMPLING) ** 2).mean(), rtol=1e-5)


def test_dual_rebel_weighs_both_policies():
    margin = 0.05 * (differences(THETA) - 0.1 * differences(REFERENCE) - 0.9 * differences(SAMPLING))
    np.testing.assert_allclose(loss_of(DualREBEL()), ((margin - GAIN) ** 2).mean(), rtol=1e-5)


def test_dual_rebel_without_the_reference_is_rebel():
    dual = DualREBEL(alpha_ratio=0.0, total_regularization=0.25)
    np.testing.assert_array_equal(gradient_of(dual), gradient_of(REBEL(eta=4.0)))


def test_dual_rebel_is_at_rest_where_dar_would_go():
    best = 0.1 * REFERENCE + 0.9 * SAMPLING + Z_SCORED / 0.05
    assert loss_of(DualREBEL(), best) == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(gradient_of(DualREBEL(), best), 0, atol=1e-6)
    assert loss_of(DualREBEL()) > 1


def test_dual_dpo_is_the_logistic_loss_of_both_margins():
    margin = 0.05 * (differences(THETA) - 0.1 * differences(REFERENCE) - 0.9 * differences(SAMPLING))
    np.testing.assert_allclose(loss_of(DualDPO()), np.log1p(np.exp(-margin)).mean(), rtol=1e-5)


def test_dual_dpo_with_the_reference_alone_is_dpo():
    dual = DualDPO(alpha_ratio=1.0, total_regularization=0.3)
    np.testing.assert_array_equal(gradient_of(dual), gradient_of(OnlineDPO(beta=0.3)))


def test_dual_dpo_from_the_reference_is_dpo_whatever_rho():
    start = golden.rollouts(SAMPLING, SAMPLING)
    dpo = gradient_of(OnlineDPO(beta=0.05), spoken=start)
    for rho in (0.0, 0.1, 0.7):
        np.testing.assert_allclose(gradient_of(DualDPO(alpha_ratio=rho), spoken=start), dpo, rtol=1e-5)


@pytest.mark.parametrize("kind", [DualDPO, DualREBEL])
def test_both_notations_name_the_same(kind):
    assert kind(kl_ref_coef=0.25, kl_sampling_coef=0.75) == kind(alpha_ratio=0.25, total_regularization=1.0)
    with pytest.raises(ValueError, match="both KL notations"):
        kind(kl_ref_coef=0.1, kl_sampling_coef=0.1, alpha_ratio=0.5)


def test_scale_of_the_rewards_matters_only_unnormalised():
    larger = golden.rewards(10 * REWARD)
    np.testing.assert_allclose(gradient_of(REBEL(), judged=larger), gradient_of(REBEL()), rtol=1e-4)
    raw = REBEL(normalize="none")
    assert np.abs(gradient_of(raw, judged=larger)).max() > 5 * np.abs(gradient_of(raw)).max()
