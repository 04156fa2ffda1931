import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from jax.sharding import NamedSharding, PartitionSpec
from pydantic import ValidationError

from dar_jax.parallel import MeshShape
from dar_jax.sampling import Choice
from dar_jax.sampling.choose import logprobs, pick

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


def chi_square(seen_V, expected_V, bins=24):
    """Chi-square over runs of neighbouring tokens, at most `bins` of them, of about equal expectation."""
    before_V = np.cumsum(expected_V) - expected_V
    _, bin_V = np.unique((before_V * bins).clip(0, bins - 1).astype(int), return_inverse=True)
    seen, expected = np.bincount(bin_V, seen_V), np.bincount(bin_V, expected_V * seen_V.sum())
    return ((seen - expected) ** 2 / expected).sum()


@pytest.mark.parametrize("size", [131, *(pytest.param(size, marks=pytest.mark.slow) for size in (384, 1000, 4096))])
def test_draws_follow_the_distribution_over_many_blocks(size):
    """Sizes that fill their blocks and sizes that do not; a third of the tokens forbidden, whole blocks among them."""
    rng = np.random.default_rng(size)
    logits_V = rng.normal(0, 2, size).astype(np.float32)
    logits_V[rng.random(size) < 0.2] = -np.inf
    logits_V[size // 4 : size // 3] = -np.inf
    draws = 50_000
    keys = jax.random.split(jax.random.key(size), draws)
    token_B = np.asarray(Choice()(jnp.broadcast_to(logits_V, (draws, size)), keys))
    seen_V = np.bincount(token_B, minlength=size)
    assert not seen_V[np.isneginf(logits_V)].any()
    expected_V = np.exp(logits_V) / np.exp(logits_V).sum()
    # At most 23 degrees of freedom: 57 is passed once in ten thousand.
    assert chi_square(seen_V, expected_V) < 57
    # Within a block too: each token by itself, where enough draws are expected.
    often = expected_V * draws > 50
    error_V = (seen_V - expected_V * draws)[often] / np.sqrt(expected_V * draws)[often]
    assert np.abs(error_V).max() < 5


@settings(max_examples=200, deadline=None)
@given(
    arrays(np.float32, (1, 37), elements=st.one_of(st.just(0.0), st.floats(2.0**-120, 8.0, width=32))),
    st.sampled_from([0.0, 2.0**-23, 0.5, 1 - 2.0**-23]),
)
def test_what_has_no_mass_is_never_picked_at_either_end_of_the_uniform_numbers(mass_BW, uniform):
    mass_BW[0, 17] = 1.0
    picked = int(pick(jnp.asarray(mass_BW), jnp.full(1, uniform, jnp.float32))[0])
    assert mass_BW[0, picked] > 0
    share_W = np.cumsum(mass_BW[0], dtype=np.float64) / mass_BW.sum(dtype=np.float64)
    assert share_W[picked] >= uniform - 1e-5
    assert picked == 0 or share_W[picked - 1] <= uniform + 1e-5


@pytest.mark.parametrize("size", [5, 131, 4096])
@pytest.mark.parametrize("place", [0, 0.5, 1])
def test_the_only_possible_token_is_drawn_wherever_it_lies(size, place):
    token = round(place * (size - 1))
    logits_BV = jnp.where(jnp.arange(size) == token, -40.0, -jnp.inf)[None].repeat(512, 0)
    drawn_B = Choice()(logits_BV, jax.random.split(jax.random.key(0), 512))
    np.testing.assert_array_equal(drawn_B, np.full(512, token))


def test_a_row_draws_the_same_whatever_the_batch_around_it():
    logits_BV = jnp.asarray(np.random.default_rng(0).normal(0, 3, (32, 1000)), jnp.float32)
    keys = jax.random.split(jax.random.key(0), 32)
    together_B = Choice()(logits_BV, keys)
    np.testing.assert_array_equal(Choice()(logits_BV[::-1], keys[::-1])[::-1], together_B)
    alone_B = [int(Choice()(logits_BV[row : row + 1], keys[row : row + 1])[0]) for row in range(32)]
    np.testing.assert_array_equal(alone_B, together_B)


@pytest.mark.parametrize("size", [5, 1000, 4096])
def test_logprobs_are_those_of_log_softmax(size):
    logits_BV = jnp.asarray(np.random.default_rng(0).normal(0, 5, (16, size)) - 300, jnp.float32)
    token_B = jnp.arange(16) * 7 % size
    expected_B = jax.nn.log_softmax(logits_BV)[jnp.arange(16), token_B]
    np.testing.assert_allclose(logprobs(logits_BV, token_B), expected_B, rtol=1e-5, atol=1e-5)


def test_the_draw_and_its_logprob_share_their_sums():
    """One exponential over the vocabulary in the compiled program, not two."""

    def both(logits_BV, keys):
        token_B = Choice()(logits_BV, keys)
        return token_B, logprobs(logits_BV, token_B)

    keys = jax.random.split(jax.random.key(0), 8)
    text = jax.jit(both).lower(jnp.zeros((8, 4096)), keys).compile().as_text()
    assert len(re.findall(r"f32\[8,256,16\]\S* exponential\(", text)) == 1


def test_a_vocabulary_split_over_devices_stays_where_it_is():
    """Between devices go sums of blocks and one block a row, not logits; and the tokens are the same."""
    mesh = MeshShape(fsdp=1, tensor=8).build()
    logits_BV = jnp.asarray(np.random.default_rng(0).normal(0, 3, (4, 8192)), jnp.float32)
    keys = jax.random.split(jax.random.key(0), 4)
    split = jax.device_put(logits_BV, NamedSharding(mesh, PartitionSpec(None, "tensor")))
    compiled = jax.jit(Choice()).lower(split, keys).compile()
    moved = re.findall(r"= \w+\[([\d,]+)\]\S* (?:all-|reduce-scatter|collective-)", compiled.as_text())
    assert moved
    assert max(np.prod([int(size) for size in shape.split(",")]) for shape in moved) <= 4 * 256
    np.testing.assert_array_equal(compiled(split, keys), Choice()(logits_BV, keys))


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
