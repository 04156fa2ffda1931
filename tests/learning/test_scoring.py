import functools as ft

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dar_jax import models, parallel
from dar_jax.batches import Inputs
from dar_jax.learning.scoring import chunked_logprobs, completion_logprobs
from tests.nano import NANO

ROWS, SIZE, LENGTH = 3, 20, 12


@pytest.fixture(scope="module")
def params():
    return jax.jit(models.init, static_argnums=0)(NANO, jax.random.key(0))


@pytest.fixture(scope="module")
def tokens():
    token_BS = np.random.default_rng(0).integers(0, NANO.vocab_size, (ROWS, SIZE)).astype(np.int32)
    mask_BS = np.ones((ROWS, SIZE), bool)
    mask_BS[1, :5], mask_BS[2, :7], mask_BS[2, -4:] = False, False, False
    return token_BS, mask_BS


@ft.partial(jax.jit, static_argnames="chunk")
def score(params, tokens, chunk=LENGTH):
    return completion_logprobs(NANO, params, Inputs(token_BT=tokens[0], mask_BS=tokens[1]), LENGTH, chunk=chunk)[0]


@pytest.fixture(scope="module")
def whole(params, tokens):
    return score(params, tokens)


def test_logits_sliced_off_by_one(params, tokens, whole):
    """log p of a token comes from the logits one position before it."""
    token_BS, mask_BS = map(jnp.asarray, tokens)
    model = models.bind(NANO, params)
    hidden_BSD, _ = model(Inputs(token_BT=token_BS, mask_BS=mask_BS))
    logprob_BSV = jax.nn.log_softmax(model.logits(hidden_BSD))
    for b, s in ((0, SIZE - LENGTH), (0, SIZE - 1), (1, 13), (2, 15)):
        expected = logprob_BSV[b, s - 1, token_BS[b, s]]
        assert whole[b, s - SIZE + LENGTH] == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.parametrize("chunk", [4, 5, 64])
def test_chunked_equals_whole_whether_or_not_chunks_divide(params, tokens, whole, chunk):
    np.testing.assert_allclose(score(params, tokens, chunk=chunk), whole, atol=1e-5)


@pytest.fixture(scope="module")
def pieces():
    random = np.random.default_rng(1)
    hidden_BTD, head_DV = random.normal(size=(3, 12, 8)), random.normal(size=(8, 64))
    target_BT = random.integers(0, 64, (3, 12))
    return jnp.asarray(hidden_BTD, jnp.float32), jnp.asarray(head_DV, jnp.float32), jnp.asarray(target_BT)


@ft.partial(jax.jit, static_argnums=3)
def total(hidden_BTD, head_DV, target_BT, chunk):
    return (chunked_logprobs(lambda h: h @ head_DV, hidden_BTD, target_BT, chunk=chunk) ** 2).sum()


@pytest.mark.parametrize("chunk", [4, 5])
def test_chunked_gradient_equals_whole(pieces, chunk):
    gradient = jax.jit(jax.grad(total, argnums=(0, 1)), static_argnums=3)
    for one, other in zip(gradient(*pieces, chunk), gradient(*pieces, 12), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("size", ["[3,12,64]", "[12,3,64]", "[3,3,4,64]"])
def test_btv_logits_out_of_memory(pieces, size):
    """Neither the scores nor their gradient hold logits of all positions, in whatever order of axes."""
    for function in (total, jax.grad(total, argnums=(0, 1))):
        assert size not in str(jax.make_jaxpr(function, static_argnums=3)(*pieces, 4))
    assert "[3,12,64]" in str(jax.make_jaxpr(total, static_argnums=3)(*pieces, 12))


@pytest.mark.parametrize("chunk", [4, 64])
def test_label_is_picked_right_where_the_vocabulary_is_split(params, tokens, whole, chunk):
    mesh = parallel.MeshShape(tensor=8).build()
    layout = parallel.shardings(models.abstract(NANO), models.logical_axes(NANO), mesh)
    assert layout["head"].shard_shape((NANO.width, NANO.vocab_size)) == (NANO.width, NANO.vocab_size // 8)
    with jax.set_mesh(mesh):
        split = score(jax.device_put(params, layout), parallel.replicated(tokens, mesh), chunk=chunk)
    np.testing.assert_allclose(split, whole, atol=1e-5)


def test_left_padding_without_position_ids(params, tokens, whole):
    """The same row with more padding on the left, or none of it, has the same log-probs."""
    token_BS, mask_BS = tokens
    more = np.pad(token_BS, ((0, 0), (9, 0)), constant_values=5), np.pad(mask_BS, ((0, 0), (9, 0)))
    mask_BT = mask_BS[:, -LENGTH:]
    np.testing.assert_allclose(np.where(mask_BT, score(params, more), 0), np.where(mask_BT, whole, 0), atol=1e-5)
    bare = token_BS[1:2, 5:], mask_BS[1:2, 5:]
    np.testing.assert_allclose(score(params, bare)[0], whole[1], atol=1e-5)


def test_pads_attended_as_prompt(params, tokens, whole):
    """What stands under the mask is not read, on either side."""
    token_BS, mask_BS = tokens
    other = np.where(mask_BS, token_BS, (token_BS + 17) % NANO.vocab_size)
    mask_BT = mask_BS[:, -LENGTH:]
    np.testing.assert_array_equal(np.where(mask_BT, score(params, (other, mask_BS)), 0), np.where(mask_BT, whole, 0))


def test_a_row_of_padding_alone_gives_numbers(params, tokens):
    assert np.isfinite(score(params, (tokens[0], np.zeros_like(tokens[1])))).all()


def test_temperature_divides_the_logits_before_the_softmax(pieces):
    hidden_BTD, head_DV, target_BT = pieces
    warm = chunked_logprobs(lambda h: h @ head_DV, hidden_BTD, target_BT, temperature=2.0, chunk=5)
    logprob_BTV = jax.nn.log_softmax(hidden_BTD @ head_DV / 2)
    np.testing.assert_allclose(warm, jnp.take_along_axis(logprob_BTV, target_BT[..., None], 2)[..., 0], atol=1e-5)


def test_log_probs_are_float32_whatever_the_parameters(params, tokens, whole):
    narrow = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
    scored = score(narrow, tokens, chunk=5)
    assert scored.dtype == whole.dtype == jnp.float32
    assert 0 < np.abs(scored - whole).max() < 1.0
