import jax.numpy as jnp
import numpy as np
import pytest

from dar_jax.algorithms.dar import DAR
from dar_jax.algorithms.var import VAR, self_normalized
from tests.algorithms import golden
from tests.algorithms.golden import REFERENCE, SAMPLING, THETA, Z_SCORED, gradient_of, loss_of


@pytest.mark.parametrize(("pool", "axis"), [("batch", None), ("prompt", 1)])
def test_the_weights_have_the_mean_one(pool, axis):
    raw = np.exp(0.1 * (REFERENCE - SAMPLING) + Z_SCORED)
    expected = raw / raw.mean(axis, keepdims=True)
    np.testing.assert_allclose(loss_of(VAR(pool=pool)), -(expected * THETA).mean(), rtol=1e-5)


def test_they_are_dars_unclipped_weights_over_their_mean():
    weight_E = -8 * gradient_of(DAR(total_regularization=1.0, weight_clip=1e6))
    np.testing.assert_allclose(-8 * gradient_of(VAR()), weight_E / weight_E.mean(), rtol=1e-5)


def test_at_rho_one_the_samples_are_those_of_the_reference():
    """VAR's own target, pi_ref exp(r / lambda) / Z: the whole ratio is in the weights."""
    raw = np.exp(REFERENCE - SAMPLING + Z_SCORED)
    np.testing.assert_allclose(-8 * gradient_of(VAR(alpha_ratio=1.0)), (raw / raw.mean()).reshape(-1), rtol=1e-4)


def test_what_failed_has_no_share():
    used_PG = jnp.array([[True, True, False], [True, False, False]])
    weight_PG = self_normalized(jnp.array([[0.0, 0.0, 99.0], [0.0, 99.0, 99.0]]), used_PG, "batch")
    np.testing.assert_allclose(weight_PG, used_PG.astype(float), rtol=1e-6)
    by_prompt = self_normalized(jnp.array([[0.0, jnp.log(3.0), 99.0], [5.0, 99.0, 99.0]]), used_PG, "prompt")
    np.testing.assert_allclose(by_prompt, [[0.5, 1.5, 0], [1, 0, 0]], rtol=1e-6)


def test_a_huge_exponent_does_not_overflow():
    _, metrics = VAR(total_regularization=1e-3).weigh(golden.rollouts(), golden.rewards())
    assert metrics["var/weight_max"] == pytest.approx(8.0)
    assert metrics["var/effective_sample_size"] == pytest.approx(1.0)
    assert "2 or more" in VAR().reject_group_size(1)
