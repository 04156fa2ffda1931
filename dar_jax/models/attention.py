"""Causal grouped-query attention with rotary positions.

Letters as in `batches.py`, and `M` the query heads that share one key/value head (N = K x M).
"""

import functools as ft
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from dar_jax.models import kernels
from dar_jax.models.config import DecoderConfig
from dar_jax.models.layers import Norm, Projection
from dar_jax.models.rope import Rotation, rotate

if TYPE_CHECKING:
    KeyValue = tuple[jax.Array, jax.Array]


class View(NamedTuple):
    """How a layer sees: rotations, which positions each query may see, which hold real tokens, whether it is local."""

    rotation: Rotation
    mask_BTS: jax.Array
    mask_BS: jax.Array
    local: jax.Array


_NEVER = -1e30  # finite, so that a row with nothing to attend to gives a plain average and not NaN


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

    def __call__(
        self, hidden_BTD: jax.Array, view: View, cached: "KeyValue | None", offset: jax.Array | int
    ) -> "tuple[jax.Array, KeyValue | None]":
        """Attend, and return what the cache of this layer has become (None without one)."""
        rotation = view.rotation
        query_BTNH, key_BTKH, value_BTKH = self.query(hidden_BTD), self.key(hidden_BTD), self.value(hidden_BTD)
        if self.config.qk_norm:
            query_BTNH, key_BTKH = self.query_norm(query_BTNH), self.key_norm(key_BTKH)
        query_BTNH, key_BTKH = rotate(query_BTNH, rotation), rotate(key_BTKH, rotation)
        key_BKSH, value_BKSH = key_BTKH.swapaxes(1, 2), value_BTKH.swapaxes(1, 2)
        if cached is not None:
            key_BKSH = write(cached[0], key_BKSH, offset)
            value_BKSH = write(cached[1], value_BKSH, offset)
            mixed_BTNH = attend(query_BTNH, key_BKSH, value_BKSH, view.mask_BTS, self.config)
            return self.output(mixed_BTNH), (key_BKSH, value_BKSH)
        return self.output(self._attended(query_BTNH, key_BKSH, value_BKSH, view)), None

    def _attended(self, query_BTNH: jax.Array, key_BKSH: jax.Array, value_BKSH: jax.Array, view: View) -> jax.Array:
        """Attend without a cache, by the kernel of the settings."""
        if self.config.attention == "splash":
            return kernels.splash(query_BTNH, key_BKSH, value_BKSH, view.mask_BS, view.local, self.config)
        kernel = kernels.cudnn if self.config.attention == "cudnn" else attend
        return kernel(query_BTNH, key_BKSH, value_BKSH, view.mask_BTS, self.config)


def attend(
    query_BTNH: jax.Array, key_BKSH: jax.Array, value_BKSH: jax.Array, mask_BTS: jax.Array, config: DecoderConfig
) -> jax.Array:
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
    score_BKMTS = capped(score_BKMTS * (config.score_size or size) ** -0.5, config.score_cap)
    share_BKMTS = jax.nn.softmax(jnp.where(mask_BTS[:, None, None], score_BKMTS, _NEVER), axis=-1).astype(dtype)
    mixed_BTKMH = jnp.einsum("BKMTS,BKSH->BTKMH", share_BKMTS, value_BKSH.astype(dtype))
    return mixed_BTKMH.reshape(query_BTNH.shape)


def capped(value: jax.Array, cap: float | None) -> jax.Array:
    """Bend values smoothly into (-cap, cap) (Bello et al. 2016); None leaves them."""
    return value if cap is None else cap * jnp.tanh(value / cap)


def views(
    config: DecoderConfig, position_BT: jax.Array, mask_BS: jax.Array, offset: jax.Array | int
) -> tuple[View, View]:
    """Say how a global and a local layer see.

    Each query sees real positions up to its own `[B, T, S]`, in a local layer the last `window` of them.
    """
    queries, seen = position_BT.shape[1], mask_BS.shape[1]
    distance_TS = offset + jnp.arange(queries)[:, None] - jnp.arange(seen)
    mask_BTS = (distance_TS >= 0) & mask_BS[:, None, :]
    rotation = config.rope.rotation(position_BT, config.head_size)
    local_rotation = config.local_rope.rotation(position_BT, config.head_size) if config.local_rope else rotation
    near_BTS = mask_BTS & (distance_TS < (config.window or seen))
    everywhere = View(rotation, mask_BTS, mask_BS, jnp.array(False))
    return everywhere, View(local_rotation, near_BTS, mask_BS, jnp.array(True))


def write(cache_BKSH: jax.Array, new_BKTH: jax.Array, offset: jax.Array | int) -> jax.Array:
    """Put new positions into the cache from `offset` on. They must fit: JAX clamps the offset."""
    return jax.lax.dynamic_update_slice(cache_BKSH, new_BKTH.astype(cache_BKSH.dtype), (0, 0, offset, 0))
