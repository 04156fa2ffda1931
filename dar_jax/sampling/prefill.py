"""Prefill: each prompt is read once, in several passes, directly into the cache rows of all its completions."""

import math

import jax
import jax.numpy as jnp

from dar_jax.batches import Inputs
from dar_jax.models import CACHE_AXES, Cache, Decoder
from dar_jax.parallel import constrain, parts

# Tokens that a device reads in one pass: enough to keep it busy, few enough to need little memory beside the cache.
_TOKENS = 2048


def prefill(model: Decoder, prompts_P: Inputs, group_size: int, positions: int) -> tuple[jax.Array, Cache]:
    """Return the hidden states of each prompt's last token `[P, D]`, and the cache of the P x G completions with
    `positions` positions each, of which those of the prompt are filled.
    """
    prompts, size = prompts_P.token_BT.shape
    passes = _passes(prompts, size)
    each = prompts // passes

    def split(array: jax.Array) -> jax.Array:
        # A pass takes every `passes`-th prompt: a device holds neighbouring prompts, and has its share of every pass.
        return array.reshape(each, passes, size).swapaxes(0, 1)

    def read(cache: Cache, inputs: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[Cache, jax.Array]:
        token_CS, mask_CS, number = inputs
        hidden_CSD, new = model(
            Inputs(token_BT=constrain(token_CS, "batch", None), mask_BS=constrain(mask_CS, "batch", None)),
            return_cache=True,
        )
        assert new is not None
        return jax.tree.map(lambda leaf, more: _filled(leaf, more, number), cache, new), hidden_CSD[:, -1]

    def empty(leaf: jax.ShapeDtypeStruct) -> jax.Array:
        layers, _, *rest = leaf.shape
        return constrain(jnp.zeros((layers, each, passes, group_size, *rest), leaf.dtype), *_SPLIT_AXES)

    shapes = jax.eval_shape(lambda: Cache.zeros(model.config, prompts, positions, model.embed.dtype))
    inputs = split(prompts_P.token_BT), split(prompts_P.mask_BS), jnp.arange(passes)
    cache, hidden_ACD = jax.lax.scan(read, jax.tree.map(empty, shapes), inputs)
    return hidden_ACD.swapaxes(0, 1).reshape(prompts, -1), jax.tree.map(_by_rows, cache)


_SPLIT_AXES = (*CACHE_AXES[:2], None, None, *CACHE_AXES[2:])


def _filled(leaf: jax.Array, new_LCKSH: jax.Array, number: jax.Array) -> jax.Array:
    """Write the keys or values of a pass into the rows of all completions of its prompts."""
    layers, each, *rest = new_LCKSH.shape
    shared = jnp.broadcast_to(new_LCKSH[:, :, None, None], (layers, each, 1, leaf.shape[3], *rest))
    shared = constrain(shared.astype(leaf.dtype), *_SPLIT_AXES)
    return jax.lax.dynamic_update_slice(leaf, shared, (0, 0, number, 0, 0, 0, 0))


def _by_rows(leaf: jax.Array) -> jax.Array:
    return constrain(leaf.reshape(leaf.shape[0], math.prod(leaf.shape[1:4]), *leaf.shape[4:]), *CACHE_AXES)


def _passes(prompts: int, size: int) -> int:
    """Return the smallest number of passes in which a device reads at most _TOKENS, or one prompt, at a time."""
    held = prompts // parts("batch", prompts)
    few = (passes for passes in range(1, held) if held % passes == 0 and held // passes * size <= _TOKENS)
    return next(few, held)
