"""Causal grouped-query attention with rotary positions.

Letters as in `batches.py`, and `M` the query heads that share one key/value head (N = K x M).
"""

import functools as ft
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from dar_jax.models import kernels
from dar_jax.models.cache import KeyValue, Past
from dar_jax.models.decoder_config import DecoderConfig
from dar_jax.models.layers import Norm, Projection
from dar_jax.models.rope import Rotation, rotate


class AttentionMasks(NamedTuple):
    """Attention masks and rotary tables of one layer type (global or local).

    `mask_BTS` is over the tokens of this call, `mask_BS` marks the real ones among them, `local` is True for a sliding
    window, and `past_BTS` is over cached positions (None without a cache).
    """

    rotation: Rotation
    mask_BTS: jax.Array
    mask_BS: jax.Array
    local: jax.Array
    past_BTS: Any


_NEVER = -1e30  # finite, so that a row with nothing to attend to averages its values instead of giving NaN


class Attention(nnx.Module):
    """Attention of one layer."""

    def __init__(self, config: DecoderConfig, *, rngs: nnx.Rngs) -> None:
        project = ft.partial(Projection, config, bias=config.qkv_bias, rngs=rngs)
        self.query = project("query", ("width",), ("heads", "head_size"))
        self.key = project("key", ("width",), ("kv_heads", "head_size"))
        self.value = project("value", ("width",), ("kv_heads", "head_size"))
        self.output = project("output", ("heads", "head_size"), ("width",), bias=False)
        if config.qk_norm:
            shared = config.qk_norm == "all"
            self.query_norm = Norm(config, *(("heads",) if shared else ()), "head_size")
            self.key_norm = Norm(config, *(("kv_heads",) if shared else ()), "head_size")
        self.config = config

    def __call__(self, hidden_BTD: jax.Array, view: AttentionMasks, past: Past | None) -> tuple[jax.Array, KeyValue]:
        """Return the attention output, and the new keys and values or the updated cache of this layer."""
        rotation = view.rotation
        query_BTNH, key_BTKH, value_BTKH = self.query(hidden_BTD), self.key(hidden_BTD), self.value(hidden_BTD)
        if self.config.qk_norm:
            query_BTNH, key_BTKH = self.query_norm(query_BTNH), self.key_norm(key_BTKH)
        query_BTNH, key_BTKH = rotate(query_BTNH, rotation), rotate(key_BTKH, rotation)
        key_BKSH, value_BKSH = key_BTKH.swapaxes(1, 2), value_BTKH.swapaxes(1, 2)
        new = key_BKSH, value_BKSH
        if past is None:
            mixed_BTNH = self._attended(query_BTNH, *new, view)
        elif past.offset is None:
            mixed_BTNH = attend(query_BTNH, [(*past.cached, view.past_BTS), (*new, view.mask_BTS)], self.config)
        else:
            new = past.written(new)
            mask_BTS = jax.lax.dynamic_update_slice(view.past_BTS, view.mask_BTS, (0, 0, past.offset))
            mixed_BTNH = attend(query_BTNH, [(*new, mask_BTS)], self.config)
        return self.output(mixed_BTNH), new

    def _attended(
        self, query_BTNH: jax.Array, key_BKSH: jax.Array, value_BKSH: jax.Array, view: AttentionMasks
    ) -> jax.Array:
        """Return the attention of these tokens to each other, by the kernel in the settings."""
        if self.config.attention == "splash":
            return kernels.splash(query_BTNH, key_BKSH, value_BKSH, view.mask_BS, view.local, self.config)
        if self.config.attention == "cudnn":
            return kernels.cudnn(query_BTNH, key_BKSH, value_BKSH, view.mask_BTS, self.config)
        return attend(query_BTNH, [(key_BKSH, value_BKSH, view.mask_BTS)], self.config)


def attend(
    query_BTNH: jax.Array, stretches: Sequence[tuple[jax.Array, jax.Array, jax.Array]], config: DecoderConfig
) -> jax.Array:
    """Return grouped-query attention `[B, T, N, H]`, with the softmax in float32.

    Keys `[B, K, S, H]`, values and masks `[B, T, S]` come in stretches of positions with one softmax over all of them,
    so that a cache is read in place. Query heads stay grouped and no key or value is repeated in memory: the T x M
    queries of a key/value head are the rows (`Q`) of one matmul.
    """
    rows, queries, _, size = query_BTNH.shape
    query_BKTMH = query_BTNH.reshape(rows, queries, stretches[0][0].shape[1], -1, size).swapaxes(1, 2)
    shares = _softmax([_scores(query_BKTMH, key_BKSH, mask_BTS, config) for key_BKSH, _, mask_BTS in stretches])
    mixed = [_mixed(share, value, query_BTNH.dtype) for share, (_, value, _) in zip(shares, stretches, strict=True)]
    return ft.reduce(jnp.add, mixed).swapaxes(1, 2).reshape(query_BTNH.shape)


def _scores(query_BKTMH: jax.Array, key_BKSH: jax.Array, mask_BTS: jax.Array, config: DecoderConfig) -> jax.Array:
    rows, kv_heads, queries, group, size = query_BKTMH.shape
    score_BKQS = jnp.einsum(
        "BKQH,BKSH->BKQS",
        query_BKTMH.reshape(rows, kv_heads, -1, size),
        key_BKSH.astype(query_BKTMH.dtype),
        preferred_element_type=jnp.float32,
    )
    score_BKQS = capped(score_BKQS * (config.score_size or size) ** -0.5, config.score_cap)
    return jnp.where(mask_BTS[:, None, :, None], score_BKQS.reshape(rows, kv_heads, queries, group, -1), _NEVER)


def _softmax(scores: Sequence[jax.Array]) -> list[jax.Array]:
    """Return the softmax over the last axes of all scores together."""
    if len(scores) == 1:
        return [jax.nn.softmax(scores[0], axis=-1)]
    top = ft.reduce(jnp.maximum, [score.max(-1, keepdims=True) for score in scores])
    raised = [jnp.exp(score - top) for score in scores]
    total = ft.reduce(jnp.add, [each.sum(-1, keepdims=True) for each in raised])
    return [each / total for each in raised]


def _mixed(share_BKTMS: jax.Array, value_BKSH: jax.Array, dtype: jnp.dtype) -> jax.Array:
    rows, kv_heads, queries, group, seen = share_BKTMS.shape
    share_BKQS = share_BKTMS.astype(dtype).reshape(rows, kv_heads, -1, seen)
    mixed_BKQH = jnp.einsum("BKQS,BKSH->BKQH", share_BKQS, value_BKSH.astype(dtype))
    return mixed_BKQH.reshape(rows, kv_heads, queries, group, -1)


def capped(value: jax.Array, cap: float | None) -> jax.Array:
    """Return values soft-capped into (-cap, cap) (Bello et al. 2016), or unchanged if the cap is None."""
    return value if cap is None else cap * jnp.tanh(value / cap)


def attention_masks(
    config: DecoderConfig, position_BT: jax.Array, mask_BS: jax.Array, offset: jax.Array | int | None
) -> tuple[AttentionMasks, AttentionMasks]:
    """Return the masks of global and of local layers; `offset` is the number of cached positions, None without a cache.

    Each query attends to real positions up to its own, in a local layer to the last `window` of them.
    """
    queries, past = position_BT.shape[1], mask_BS.shape[1]
    mask_BT = mask_BS if offset is None else jax.lax.dynamic_slice_in_dim(mask_BS, offset, queries, axis=1)
    own_TT = _distances(queries, queries, 0)
    own_BTT = (own_TT >= 0) & mask_BT[:, None, :]
    rotation = config.rope.rotation(position_BT, config.head_size)
    everywhere = AttentionMasks(rotation, own_BTT, mask_BT, jnp.array(False), None)
    local_rotation = config.local_rope.rotation(position_BT, config.head_size) if config.local_rope else rotation
    nearby = AttentionMasks(
        local_rotation, own_BTT & (own_TT < _window(config, queries)), mask_BT, jnp.array(True), None
    )
    if offset is None:
        return everywhere, nearby
    past_TS = _distances(queries, past, offset)
    past_BTS = mask_BS[:, None, :] & (past_TS > jnp.arange(queries)[:, None])
    near_BTS = past_BTS & (past_TS < _window(config, past))
    return everywhere._replace(past_BTS=past_BTS), nearby._replace(past_BTS=near_BTS)


def _window(config: DecoderConfig, length: int) -> int:
    return config.window or length


def _distances(queries: int, seen: int, offset: jax.Array | int) -> jax.Array:
    """Count from each position back to each query's own, `[T, S]`."""
    return offset + jnp.arange(queries)[:, None] - jnp.arange(seen)
