"""A shared prefill: prompts of unlike length, left padded, read once; three completions each."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dar_jax import models, parallel
from dar_jax.batches import Inputs
from dar_jax.parallel import MeshShape
from dar_jax.sampling import prefill as module
from dar_jax.sampling.prefill import prefill
from tests.models.score import TINY, draw, logits

PROMPTS, WIDTH, GROUP, MORE = 4, 5, 3, 4


@pytest.fixture(scope="module")
def texts():
    """Prompts, their mask, and what follows them."""
    prompt_PS = jax.random.randint(jax.random.key(3), (PROMPTS, WIDTH), 0, TINY.vocab_size)
    mask_PS = np.arange(WIDTH) >= np.array([2, 0, 4, 1])[:, None]
    return prompt_PS, mask_PS, jax.random.randint(jax.random.key(4), (PROMPTS * GROUP, MORE), 0, TINY.vocab_size)


@pytest.mark.parametrize(
    ("tokens", "shape", "turns"),
    [
        (100, MeshShape(devices=1), 1),
        (2 * WIDTH, MeshShape(devices=1), 2),
        (1, MeshShape(devices=1), 4),
        (WIDTH, MeshShape(devices=2), 2),
    ],
)
def test_what_follows_a_shared_prefill_is_the_full_pass(tokens, shape, turns, texts, monkeypatch):
    monkeypatch.setattr(module, "_TOKENS", tokens)
    params, (prompt_PS, mask_PS, completion_BT) = draw(TINY), texts
    token_BS = jnp.concatenate([jnp.repeat(prompt_PS, GROUP, axis=0), completion_BT], axis=1)
    mask_BS = jnp.pad(jnp.repeat(mask_PS, GROUP, axis=0), [(0, 0), (0, MORE)], constant_values=True)
    full = logits(TINY, params, token_BS, mask_BS)

    @jax.jit
    def start(prompt_PS, mask_PS):
        assert module._passes(PROMPTS, WIDTH) == turns
        model = models.bind(TINY, params)
        hidden_PD, cache = prefill(model, Inputs(token_BT=prompt_PS, mask_BS=mask_PS), GROUP, WIDTH + MORE)
        return model.logits(hidden_PD), cache

    @jax.jit
    def read(token_BT, position_BT, cache, offset):
        inputs = Inputs(token_BT=token_BT, mask_BS=mask_BS)
        model = models.bind(TINY, params)
        hidden, cache = model(inputs, position_BT=position_BT, cache=cache, offset=offset)
        return model.logits(hidden), cache

    mesh = shape.build()
    with jax.set_mesh(mesh):
        found, cache = start(*parallel.rows((prompt_PS, mask_PS), mesh))
        np.testing.assert_allclose(jnp.repeat(found, GROUP, axis=0), full[:, WIDTH - 1], rtol=0, atol=1e-5)
        for offset in range(WIDTH, WIDTH + MORE):
            at = slice(offset, offset + 1)
            found, cache = read(token_BS[:, at], models.positions(mask_BS)[:, at], cache, offset)
            np.testing.assert_allclose(found, full[:, at], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("prompts", "size", "expected"), [(1, 10_000, 1), (6, 1024, 3), (7, 1024, 7), (8, 100, 1), (64, 512, 16)]
)
def test_prompts_are_read_in_as_few_passes_as_tokens_allow(prompts, size, expected):
    assert module._passes(prompts, size) == expected
