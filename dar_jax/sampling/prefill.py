"""Prompts are read once each, some at a time, straight into the cache that all their completions share the start of."""

import math

import jax
import jax.numpy as jnp

from dar_jax.batches import Inputs
from dar_jax.models import CACHE_AXES, Cache, Decoder
from dar_jax.parallel import constrain, parts

# Tokens of a device that are read at a time: enough to keep it busy, few enough to take little beside the cache.
_TOKENS = 2048


def prefill(model: Decoder, prompts_P: Inputs, group_size: int, positions: int) -> tuple[jax.Array, Cache]:
    """Return the hidden states of each prompt's last token `[P, D]`, and the cache of all its completions: `positions`
    for each of P x G rows, those of the prompt filled.
    """
    prompts, size = prompts_P.token_BT.shape
    turns = _turns(prompts, size)
    each = prompts // turns

    def cut(array: jax.Array) -> jax.Array:
        # A turn takes prompts from all over: each device, which holds neighbouring ones, has its share of every turn.
        return array.reshape(each, turns, size).swapaxes(0, 1)

    def read(cache: Cache, turn: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[Cache, jax.Array]:
        token_CS, mask_CS, number = turn
        hidden_CSD, new = model(
            Inputs(token_BT=constrain(token_CS, "batch", None), mask_BS=constrain(mask_CS, "batch", None)), keep=True
        )
        assert new is not None
        return jax.tree.map(lambda leaf, more: _filled(leaf, more, number), cache, new), hidden_CSD[:, -1]

    def empty(leaf: jax.ShapeDtypeStruct) -> jax.Array:
        layers, _, *rest = leaf.shape
        return constrain(jnp.zeros((layers, each, turns, group_size, *rest), leaf.dtype), *_CUT_AXES)

    shapes = jax.eval_shape(lambda: Cache.zeros(model.config, prompts, positions, model.embed.dtype))
    turns_xs = cut(prompts_P.token_BT), cut(prompts_P.mask_BS), jnp.arange(turns)
    cache, hidden_ACD = jax.lax.scan(read, jax.tree.map(empty, shapes), turns_xs)
    return hidden_ACD.swapaxes(0, 1).reshape(prompts, -1), jax.tree.map(_by_rows, cache)


_CUT_AXES = (*CACHE_AXES[:2], None, None, *CACHE_AXES[2:])


def _filled(leaf: jax.Array, new_LCKSH: jax.Array, number: jax.Array) -> jax.Array:
    """Put the keys or values of a turn's prompts into the rows of all their completions."""
    layers, each, *rest = new_LCKSH.shape
    shared = jnp.broadcast_to(new_LCKSH[:, :, None, None], (layers, each, 1, leaf.shape[3], *rest))
    shared = constrain(shared.astype(leaf.dtype), *_CUT_AXES)
    return jax.lax.dynamic_update_slice(leaf, shared, (0, 0, number, 0, 0, 0, 0))


def _by_rows(leaf: jax.Array) -> jax.Array:
    return constrain(leaf.reshape(leaf.shape[0], math.prod(leaf.shape[1:4]), *leaf.shape[4:]), *CACHE_AXES)


def _turns(prompts: int, size: int) -> int:
    """Choose how many turns to take: the fewest in which a device reads so few tokens, or its prompts one by one."""
    held = prompts // parts("batch", prompts)
    few = (turns for turns in range(1, held) if held % turns == 0 and held // turns * size <= _TOKENS)
    return next(few, held)
