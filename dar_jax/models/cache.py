"""The KV cache."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dar_jax.models.decoder_config import DecoderConfig

KeyValue = tuple[jax.Array, jax.Array]
CACHE_AXES = ("layers", "batch", "kv_heads", None, "head_size")


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Cache:
    """Keys and values of every layer, row, key/value head and position; `unstacked`, lists with an array a layer.

    With this order of axes (heads, positions, head size) a TPU reads a layer and writes a position in place.
    """

    key_LBKSH: jax.Array
    value_LBKSH: jax.Array

    @classmethod
    def zeros(cls, config: DecoderConfig, rows: int, positions: int, dtype: Any = jnp.bfloat16) -> "Cache":
        """Return an empty cache of `rows` rows and `positions` positions."""
        shape = (config.layers, rows, config.kv_heads, positions, config.head_size)
        return cls(key_LBKSH=jnp.zeros(shape, dtype), value_LBKSH=jnp.zeros(shape, dtype))

    @property
    def is_unstacked(self) -> bool:
        """Whether each layer has its own array."""
        return isinstance(self.key_LBKSH, list)

    def write(self, new: "Cache", offset: jax.Array | int) -> "Cache":
        """Return the cache with new positions written at `offset`. They must fit: JAX clamps the offset."""
        return jax.tree.map(lambda leaf, more: _written(leaf, more, offset), self, new)


class Past(NamedTuple):
    """The cached keys and values of one layer, and the `offset` at which it writes its new ones before reading.

    With None the layer only reads, and the new positions of all layers are written afterwards.
    """

    cached: KeyValue
    offset: jax.Array | int | None

    def written(self, new: KeyValue) -> KeyValue:
        """Return the cached keys and values with the new ones written."""
        key_BKSH, value_BKSH = (_written(old, each, self.offset) for old, each in zip(self.cached, new, strict=True))
        return key_BKSH, value_BKSH


def _written(cached: jax.Array, new: jax.Array, offset: Any) -> jax.Array:
    return jax.lax.dynamic_update_slice(cached, new.astype(cached.dtype), (*[0] * (cached.ndim - 2), offset, 0))
