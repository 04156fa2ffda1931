"""Causal grouped-query attention with rotary positions.

Letters as in `batches.py`, and `M` the query heads that share one key/value head (N = K x M).
"""

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from flax import nnx

from dar_jax.models.config import DecoderConfig
from dar_jax.models.layers import Norm, random, zeros

if TYPE_CHECKING:
    KeyValue = tuple[jax.Array, jax.Array]

_NEVER = -1e30  # finite, so that a row with nothing to attend to gives a plain average and not NaN


class Attention(nnx.Module):
    """Attention of one layer."""

    def __init__(self, config: DecoderConfig, *, rngs: nnx.Rngs) -> None:
        self.query = random(config, ("width", "heads", "head_size"), rngs)
        self.key = random(config, ("width", "kv_heads", "head_size"), rngs)
        self.value = random(config, ("width", "kv_heads", "head_size"), rngs)
        self.output = random(config, ("heads", "head_size", "width"), rngs)
        if config.qkv_bias:
            self.query_bias = zeros(config, ("heads", "head_size"))
            self.key_bias = zeros(config, ("kv_heads", "head_size"))
            self.value_bias = zeros(config, ("kv_heads", "head_size"))
        if config.qk_norm:
            self.query_norm = Norm(config, "head_size")
            self.key_norm = Norm(config, "head_size")
        self.config = config

    def __call__(
        self,
        hidden_BTD: jax.Array,
        angle_BTH: jax.Array,
        mask_BTS: jax.Array,
        cached: "KeyValue | None",
        offset: jax.Array | int,
    ) -> "tuple[jax.Array, KeyValue | None]":
        """Attend, and return what the cache of this layer has become (None without one)."""
        query_BTNH = jnp.einsum("BTD,DNH->BTNH", hidden_BTD, self.query[...])
        key_BTKH = jnp.einsum("BTD,DKH->BTKH", hidden_BTD, self.key[...])
        value_BTKH = jnp.einsum("BTD,DKH->BTKH", hidden_BTD, self.value[...])
        if self.config.qkv_bias:
            query_BTNH += self.query_bias[...]
            key_BTKH += self.key_bias[...]
            value_BTKH += self.value_bias[...]
        if self.config.qk_norm:
            query_BTNH, key_BTKH = self.query_norm(query_BTNH), self.key_norm(key_BTKH)
        query_BTNH, key_BTKH = rotate(query_BTNH, angle_BTH), rotate(key_BTKH, angle_BTH)
        key_BKSH, value_BKSH = key_BTKH.swapaxes(1, 2), value_BTKH.swapaxes(1, 2)
        if cached is not None:
            key_BKSH = write(cached[0], key_BKSH, offset)
            value_BKSH = write(cached[1], value_BKSH, offset)
        mixed_BTNH = attend(query_BTNH, key_BKSH, value_BKSH, mask_BTS)
        output_BTD = jnp.einsum("BTNH,NHD->BTD", mixed_BTNH, self.output[...])
        return output_BTD, None if cached is None else (key_BKSH, value_BKSH)


def attend(query_BTNH: jax.Array, key_BKSH: jax.Array, value_BKSH: jax.Array, mask_BTS: jax.Array) -> jax.Array:
    """Mix the values each query may see, softmax in float32; `[B, T, N, H]`.

    Query heads stay grouped, so that no key or value is repeated in memory.
    """
    rows, queries, heads, size = query_BTNH.shape
    dtype, kv_heads = query_BTNH.dtype, key_BKSH.shape[1]
    query_BTKMH = query_BTNH.reshape(rows, queries, kv_heads, heads // kv_heads, size)
    score_BKMTS = jnp.einsum(
        "BTKMH,BKSH->BKMTS",
        query_BTKMH,
        key_BKSH.astype(dtype),
        preferred_element_type=jnp.float32,
    )
    score_BKMTS = jnp.where(mask_BTS[:, None, None], score_BKMTS * size**-0.5, _NEVER)
    share_BKMTS = jax.nn.softmax(score_BKMTS, axis=-1).astype(dtype)
    mixed_BTKMH = jnp.einsum("BKMTS,BKSH->BTKMH", share_BKMTS, value_BKSH.astype(dtype))
    return mixed_BTKMH.reshape(query_BTNH.shape)


def causal_mask(mask_BS: jax.Array, queries: int, offset: jax.Array | int) -> jax.Array:
    """Say which positions each query may see: real ones, up to its own; `[B, T, S]`."""
    position_T = offset + jnp.arange(queries)
    causal_TS = jnp.arange(mask_BS.shape[1]) <= position_T[:, None]
    return causal_TS & mask_BS[:, None, :]


def write(cache_BKSH: jax.Array, new_BKTH: jax.Array, offset: jax.Array | int) -> jax.Array:
    """Put new positions into the cache from `offset` on. They must fit: JAX clamps the offset."""
    return jax.lax.dynamic_update_slice(cache_BKSH, new_BKTH.astype(cache_BKSH.dtype), (0, 0, offset, 0))


def angles(position_BT: jax.Array, config: DecoderConfig) -> jax.Array:
    """Turn positions into the angles of half a head, float32; Su et al. 2021, equation 15."""
    exponent_H = jnp.arange(0, config.head_size, 2, dtype=jnp.float32) / config.head_size
    frequency_H = 1 / config.rope_base**exponent_H
    return position_BT[..., None].astype(jnp.float32) * frequency_H


def rotate(vector_BTNH: jax.Array, angle_BTH: jax.Array) -> jax.Array:
    """Turn each pair (i, i + H/2) of a head by its angle: the halves HF checkpoints are stored for."""
    cos, sin = jnp.cos(angle_BTH)[:, :, None], jnp.sin(angle_BTH)[:, :, None]
    first, second = jnp.split(vector_BTNH.astype(jnp.float32), 2, axis=-1)
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return turned.astype(vector_BTNH.dtype)
