from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pydantic import ValidationError

from dar_jax import models
from tests.models.score import TINY, draw, logits

LORA = models.Lora(rank=3, alpha=6.0)
ADAPTED = replace(TINY, lora=LORA)
TOKENS = [[3, 1, 4, 1, 5]]


def names(tree):
    return {
        jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in jax.tree_util.tree_leaves_with_path(tree)
    }


def test_adapters_lie_beside_every_target_and_start_as_nothing():
    params = jax.jit(models.init, static_argnums=0)(ADAPTED, jax.random.key(0))
    adapters, base = models.split(params, LORA)
    assert len(names(adapters)) == 14
    assert names(base) == names(models.abstract(TINY))
    assert adapters["layers"]["attention"]["output"]["lora_a"].shape == (3, 4, 6, 3)
    assert adapters["layers"]["attention"]["query"]["lora_b"].shape == (3, 3, 4, 6)
    other = models.join(base, jax.tree.map(jnp.negative, adapters))
    np.testing.assert_array_equal(logits(ADAPTED, params, TOKENS), logits(ADAPTED, other, TOKENS))
    # Another program, so other rounding.
    np.testing.assert_allclose(logits(ADAPTED, params, TOKENS), logits(TINY, base, TOKENS), rtol=0, atol=1e-5)
    low = adapters["layers"]["mlp"]["down"]["lora_a"]
    assert 0.8 / 24**0.5 < np.abs(low).max() <= 1 / 24**0.5


def test_only_the_targets_have_adapters():
    config = replace(TINY, lora=models.Lora(rank=2, targets=("q_proj", "down_proj")))
    adapters, _ = models.split(models.abstract(config), config.lora)
    assert names(adapters) == {
        f"layers/{matrix}/lora_{half}" for matrix in ("attention/query", "mlp/down") for half in "ab"
    }
    with pytest.raises(ValidationError, match=r"targets\.0"):
        models.Lora(targets=("query",))
    with pytest.raises(ValidationError, match="at least 1"):
        models.Lora(targets=())


def test_split_and_join_are_inverse():
    params = models.abstract(ADAPTED)
    assert models.join(*models.split(params, LORA)) == params
    assert models.split(params, None) == (params, {})
    assert models.join({}, params) == params


def test_merged_weights_are_the_adapted_model():
    params = draw(ADAPTED)
    merged = models.merge(params, LORA)
    assert names(merged) == names(models.abstract(TINY))
    found, expected = logits(TINY, merged, TOKENS), logits(ADAPTED, params, TOKENS)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    assert np.abs(expected - logits(TINY, models.split(params, LORA)[1], TOKENS)).max() > 0.1
