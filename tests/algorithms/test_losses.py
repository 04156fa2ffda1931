import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dar_jax.algorithms.losses import batch_of, weighted_regression
from dar_jax.batches import Inputs, Rollouts, check

MASK_BT = np.array([[1, 1, 1], [1, 1, 0], [1, 0, 0]], bool)
LOGPROB_BT = np.array([[-1.0, -2.0, -3.0], [-4.0, -5.0, np.nan], [-6.0, 1e30, -np.inf]], np.float32)
WEIGHT_B = np.array([2.0, 0.5, 20.0], np.float32)


def rollouts(sampling_logprob_BT=None):
    return Rollouts(
        inputs_B=Inputs(token_BT=jnp.arange(15).reshape(3, 5), mask_BS=jnp.ones((3, 5), bool)),
        mask_completion_BT=jnp.asarray(MASK_BT),
        ended_B=jnp.ones(3, bool),
        sampling_logprob_BT=sampling_logprob_BT,
    )


def batch(mask=(True, True, True), sampling=None):
    return check(batch_of(rollouts(sampling), jnp.asarray(WEIGHT_B), jnp.array(mask)))


def regress(logprob_BT, batch):
    loss, metrics = weighted_regression(jnp.asarray(logprob_BT)[:, None], batch)
    return float(loss), {key: float(value) for key, value in metrics.items()}


def test_loss_is_the_weighted_sum_of_completion_log_probs():
    loss, metrics = regress(LOGPROB_BT, batch())
    assert loss == pytest.approx(2 * 6 + 0.5 * 9 + 20 * 6)
    assert metrics == {"loss": pytest.approx(loss), "logprobs/completion": pytest.approx(-21.0)}


def test_examples_that_do_not_count_add_nothing():
    loss, metrics = regress(LOGPROB_BT, batch(mask=(True, False, False)))
    assert (loss, metrics["logprobs/completion"]) == (12.0, -6.0)


def test_gradient_is_minus_the_weight_on_completion_tokens_alone():
    finite_BT = np.nan_to_num(LOGPROB_BT, nan=0.0, posinf=0.0, neginf=0.0)
    some = batch(mask=(True, True, False))
    gradient = jax.grad(lambda x: weighted_regression(x, some)[0])(jnp.asarray(finite_BT)[:, None])[:, 0]
    np.testing.assert_array_equal(gradient, MASK_BT * np.array([-2.0, -0.5, 0.0])[:, None])


def test_no_gradient_reaches_weights_or_log_pi_t():
    def loss(weight_B, sampling_BT):
        made = batch_of(rollouts(sampling_BT), weight_B, jnp.ones(3, bool))
        total, metrics = weighted_regression(jnp.full((3, 1, 3), -1.0), made)
        return total + sum(metrics.values())

    for gradient in jax.grad(loss, argnums=(0, 1))(jnp.asarray(WEIGHT_B), jnp.full((3, 3), -2.0)):
        np.testing.assert_array_equal(gradient, 0.0)


def test_kl_k3_is_zero_for_equal_policies():
    finite_BT = jnp.where(MASK_BT, LOGPROB_BT, 0.0)
    _, metrics = regress(finite_BT, batch(sampling=finite_BT))
    assert metrics["kl/sampling_k3"] == 0.0


def test_kl_k3_is_r_minus_one_minus_log_r_over_counted_tokens_and_never_negative():
    random = np.random.default_rng(0)
    theta_BT, sampling_BT = -random.uniform(0, 5, (2, 3, 3)).astype(np.float32)
    _, metrics = regress(theta_BT, batch(mask=(True, True, False), sampling=jnp.asarray(sampling_BT)))
    log_r_BT = (theta_BT - sampling_BT)[:2]
    expected_BT = np.exp(log_r_BT) - 1 - log_r_BT
    assert (expected_BT >= 0).all()
    assert metrics["kl/sampling_k3"] == pytest.approx(expected_BT[MASK_BT[:2]].sum(), rel=1e-5)


def test_metrics_averaged_over_padding_masked_positions_move_none():
    noise_BT = jnp.where(MASK_BT, -1.0, jnp.nan)
    clean = regress(jnp.full((3, 3), -1.0), batch(sampling=jnp.full((3, 3), -1.5)))
    assert regress(noise_BT, batch(sampling=jnp.where(MASK_BT, -1.5, 1e9))) == clean


def test_batch_of_makes_each_row_an_example():
    made = batch(sampling=jnp.zeros((3, 3)))
    assert made.inputs_ER.token_BT.shape == (3, 1, 5)
    assert made.sampling_logprob_ERT.shape == (3, 1, 3)
    assert batch().sampling_logprob_ERT is None
