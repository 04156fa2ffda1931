import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dar_jax.algorithms.dar import clipped_weight, effective_sample_size

ALL = jnp.ones(4, bool)


def test_weight_is_the_exponential_clipped_above_only():
    weight = clipped_weight(jnp.array([-50.0, 0.0, 1.0, 9.0]), ALL, 20.0)
    np.testing.assert_allclose(weight, [np.exp(-50.0), 1.0, np.e, 20.0], rtol=1e-6)


def test_float32_exp_overflow_above_88():
    log_weight = jnp.array([88.8, 1e4, 3e38, jnp.inf])
    assert jnp.isinf(jnp.exp(log_weight)).all()
    np.testing.assert_allclose(clipped_weight(log_weight, ALL, 20.0), 20.0, rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_no_gradient_flows_and_none_is_nan(dtype):
    log_weight = jnp.array([-1e4, 0.0, 1e4, 50.0], dtype)
    gradient = jax.grad(lambda x: clipped_weight(x, ALL, 20.0).sum().astype(jnp.float32))(log_weight)
    np.testing.assert_array_equal(gradient.astype(np.float32), 0.0)


def test_masked_entries_weigh_nothing_whatever_they_hold():
    mask = jnp.array([True, False, False, True])
    weight = clipped_weight(jnp.array([0.0, jnp.nan, jnp.inf, 0.0]), mask, 20.0)
    np.testing.assert_array_equal(weight, [1.0, 0.0, 0.0, 1.0])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 20, width=32), min_size=1, max_size=12))
def test_effective_sample_size_lies_between_one_and_the_count(weights):
    size = float(effective_sample_size(jnp.array(weights)))
    square = float(np.sum(np.square(np.float32(weights)), dtype=np.float32))
    assert size == 0 if square == 0 else 0.99 <= size <= len(weights) * 1.001 or square < 1e-30


def test_effective_sample_size_counts_equal_weights():
    assert effective_sample_size(jnp.array([3.0, 3.0, 3.0, 0.0])) == pytest.approx(3.0)
    assert effective_sample_size(jnp.zeros(3)) == 0.0
