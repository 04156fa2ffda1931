import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dar_jax.algorithms.ppo import PPO, generalized_advantages
from tests.algorithms import golden
from tests.algorithms.golden import REFERENCE, REWARD, SAMPLING, THETA, VALUE, gradient_of, loss_of

SHAPED = REWARD - 0.05 * (SAMPLING - REFERENCE)
ADVANTAGE = (SHAPED - SHAPED.mean()) / SHAPED.std()


def test_the_loss_is_the_surrogates_and_the_values():
    ratio = np.exp(THETA - SAMPLING)
    surrogate = np.minimum(ratio * ADVANTAGE, np.clip(ratio, 0.8, 1.2) * ADVANTAGE)
    value = (VALUE - SHAPED) ** 2 / 2
    np.testing.assert_allclose(loss_of(PPO()), -surrogate.mean() + 0.1 * value.mean(), rtol=1e-5)


def test_at_the_sampling_policy_it_is_reinforce_with_values_for_a_baseline():
    gradient = gradient_of(PPO(kl_coef=0.0), spoken=golden.rollouts(THETA, THETA))
    z_scored = (REWARD - REWARD.mean()) / REWARD.std()
    np.testing.assert_allclose(gradient, -z_scored.reshape(-1) / 8, rtol=1e-4, atol=1e-6)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([(1.0, 0.95), (0.9, 0.5), (1.0, 0.0), (0.99, 1.0)]))
def test_the_advantages_are_the_discounted_surprises(seed, coefficients):
    random, (discount, lam) = np.random.default_rng(seed), coefficients
    reward, value = random.normal(size=(3, 5)), random.normal(size=(3, 5))
    length = random.integers(1, 6, 3)
    mask = np.arange(5) < length[:, None]
    got = generalized_advantages(*map(jnp.float32, (reward, value)), jnp.asarray(mask), discount, lam)
    for row, end in enumerate(length):
        ahead = np.append(value[row, 1:end], 0.0)
        surprise = reward[row, :end] + discount * ahead - value[row, :end]
        for at in range(end):
            expected = sum((discount * lam) ** k * each for k, each in enumerate(surprise[at:]))
            assert got[row, at] == pytest.approx(expected, abs=1e-5)
        assert not got[row, end:].any()


def test_without_discount_and_values_it_is_the_reward_to_go():
    reward_BT = jnp.array([[1.0, 2.0, 4.0, 9.0]])
    mask_BT = jnp.array([[True, True, True, False]])
    to_go = generalized_advantages(reward_BT, jnp.zeros((1, 4)), mask_BT, 1.0, 1.0)
    np.testing.assert_array_equal(to_go, [[7, 6, 4, 0]])
    exact = generalized_advantages(reward_BT, jnp.array([[7.0, 6, 4, 99]]), mask_BT, 1.0, 0.95)
    np.testing.assert_allclose(exact, 0, atol=1e-6)


def test_the_head_starts_from_nothing_and_reads_a_mean():
    head = PPO().head.init(3)
    assert not any(np.any(leaf) for leaf in head.values())
    moved = {"slope": jnp.array([1.0, 2.0, 3.0]), "offset": jnp.float32(0.5)}
    np.testing.assert_allclose(PPO().head.apply(moved, jnp.ones((2, 4, 3), jnp.bfloat16)), np.full((2, 4), 6.5 / 3))


@pytest.mark.parametrize("width", [96, 4096])
def test_an_update_moves_a_value_alike_at_every_width(width):
    """A head that summed moved 40 times as far at one width as at the other: nowhere in a small model's run."""
    head, hidden = PPO(value_learning_rate=2.0).head, jnp.ones((1, 1, width))
    begun = head.init(width)
    slope = jax.grad(lambda params: (head.apply(params, hidden) - 5.0).sum() ** 2 / 2)(begun)
    updates, _ = head.optimizer.update(slope, head.optimizer.init(begun), begun)
    np.testing.assert_allclose(head.apply(optax.apply_updates(begun, updates), hidden), 2.0, rtol=0.02)


def test_values_that_explain_the_returns_are_told():
    _, metrics = PPO(kl_coef=0.0).weigh(golden.rollouts(), golden.rewards())
    assert metrics["value/explained_variance"] == pytest.approx(0, abs=1e-5)
    assert metrics["value/mean"] == VALUE
