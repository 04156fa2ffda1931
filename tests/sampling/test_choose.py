import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from dar_jax.sampling import Choice

LOGITS_V = np.log(np.array([0.4, 0.05, 0.25, 0.2, 0.1], np.float32))


def truncated(logits_V, top_k=None, top_p=1.0):
    """Keep the k likeliest, then the fewest of them that together reach top_p of what is left."""
    order_V = np.argsort(-logits_V, kind="stable")[:top_k]
    p_V = np.exp(logits_V[order_V]) / np.exp(logits_V[order_V]).sum()
    before_V = np.concatenate([[0.0], np.cumsum(p_V)[:-1]])
    kept = order_V[before_V < top_p] if top_p < 1 else order_V
    return np.where(np.isin(np.arange(len(logits_V)), kept), logits_V, -np.inf)


def frequencies(choice, draws=20_000):
    """Draw from one row of logits, with a key of its own for every draw."""
    logits_BV = jnp.broadcast_to(jnp.asarray(LOGITS_V), (draws, LOGITS_V.size))
    token_B = choice(logits_BV, jax.random.split(jax.random.key(0), draws))
    assert token_B.dtype == jnp.int32
    return np.bincount(token_B, minlength=LOGITS_V.size)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([None, 1, 3, 5, 9]), st.sampled_from([0.05, 0.3, 0.77, 0.999, 1.0]))
def test_truncation_is_that_of_numpy(seed, top_k, top_p):
    logits_V = np.random.default_rng(seed).normal(0, 3, 5).astype(np.float32)
    cut_BV = Choice(top_k=top_k, top_p=top_p).truncate(jnp.asarray(logits_V)[None])
    np.testing.assert_array_equal(cut_BV[0], truncated(logits_V, top_k, top_p))


def test_the_likeliest_token_always_stays():
    peaked_BV = jnp.array([[0.0, 50.0, 0.0]])
    np.testing.assert_array_equal(Choice(top_p=1e-6).truncate(peaked_BV), [[-np.inf, 50.0, -np.inf]])


def test_rows_are_cut_each_by_its_own_logits():
    rows_BV = jnp.stack([jnp.asarray(LOGITS_V), jnp.asarray(LOGITS_V[::-1])])
    cut_BV = Choice(top_k=2).truncate(rows_BV)
    np.testing.assert_array_equal(np.isfinite(cut_BV), [[1, 0, 1, 0, 0], [0, 0, 1, 0, 1]])


@pytest.mark.parametrize(
    "choice",
    [
        Choice(),
        Choice(temperature=0.5),
        Choice(temperature=2.0),
        Choice(top_k=3),
        Choice(top_p=0.7),
        Choice(temperature=1.5, top_k=4, top_p=0.8),
    ],
    ids=str,
)
def test_draws_follow_the_truncated_distribution(choice):
    logits_V = truncated(LOGITS_V / choice.temperature, choice.top_k, choice.top_p)
    expected_V = np.exp(logits_V) / np.exp(logits_V).sum()
    seen_V = frequencies(choice)
    assert not seen_V[expected_V == 0].any()
    kept = expected_V > 0
    expected_V = expected_V[kept] * seen_V.sum()
    # Chi-square of at most 4 degrees of freedom: 23.5 is passed once in ten thousand.
    assert ((seen_V[kept] - expected_V) ** 2 / expected_V).sum() < 23.5


def test_temperature_0_takes_the_likeliest():
    assert (frequencies(Choice(temperature=0), draws=100) == [100, 0, 0, 0, 0]).all()
    rows_BV = jnp.array([[0.0, 2.0, 1.0], [5.0, 2.0, 1.0]])
    keys = jax.random.split(jax.random.key(0), 2)
    np.testing.assert_array_equal(Choice(temperature=0, top_p=0.5)(rows_BV, keys), [1, 0])


def test_the_same_keys_draw_the_same_tokens_and_others_do_not():
    logits_BV = jnp.zeros((64, 50))
    one, other = (jax.random.split(jax.random.key(seed), 64) for seed in (0, 1))
    np.testing.assert_array_equal(Choice()(logits_BV, one), Choice()(logits_BV, one))
    assert (Choice()(logits_BV, one) != Choice()(logits_BV, other)).any()


@pytest.mark.parametrize("wrong", [{"temperature": -1}, {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.1}, {"min_p": 0.1}])
def test_settings_refuse_what_no_choice_can_be(wrong):
    with pytest.raises(ValidationError):
        Choice(**wrong)
