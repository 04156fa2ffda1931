import numpy as np
import pytest

from dar_jax.algorithms.awr import AWR
from dar_jax.algorithms.dar import DAR
from tests.algorithms.golden import THETA, Z_SCORED, gradient_of, loss_of


def test_the_weight_is_the_clipped_exponential_of_the_advantage():
    for temperature, clip in ((1.0, 20.0), (0.5, 3.0)):
        expected = np.minimum(np.exp(Z_SCORED / temperature), clip)
        algorithm = AWR(temperature=temperature, weight_clip=clip)
        np.testing.assert_allclose(loss_of(algorithm), -(expected * THETA).mean(), rtol=1e-5)
        np.testing.assert_allclose(gradient_of(algorithm), -expected.reshape(-1) / 8, rtol=1e-5)


def test_it_is_dar_without_the_reference():
    dar = DAR(alpha_ratio=0.0, total_regularization=1.0)
    np.testing.assert_array_equal(gradient_of(AWR()), gradient_of(dar))


def test_one_completion_a_prompt_needs_the_batch_for_a_baseline():
    assert "algorithm.baseline=batch" in AWR().reject_group_size(1)
    assert AWR(baseline="batch").reject_group_size(1) is None


def test_a_warmer_temperature_weighs_more_evenly():
    spread = [np.ptp(gradient_of(AWR(temperature=each))) for each in (0.5, 1.0, 4.0)]
    assert spread == sorted(spread, reverse=True)
    assert np.ptp(gradient_of(AWR(temperature=1e6))) == pytest.approx(0, abs=1e-5)
