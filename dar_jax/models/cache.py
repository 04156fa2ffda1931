"""Keys and values of the positions already read."""

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
    """One key and one value for every layer, row, key/value head and cached position; `listed`, an array a layer.

    The order of axes is what lets a TPU read a layer, and write a position, where it lies: positions before head size,
    key/value heads before positions.
    """

    key_LBKSH: jax.Array
    value_LBKSH: jax.Array

    @classmethod
    def zeros(cls, config: DecoderConfig, rows: int, positions: int, dtype: Any = jnp.bfloat16) -> "Cache":
        """Make an empty cache for `rows` rows of `positions` positions."""
        shape = (config.layers, rows, config.kv_heads, positions, config.head_size)
        return cls(key_LBKSH=jnp.zeros(shape, dtype), value_LBKSH=jnp.zeros(shape, dtype))

    @property
    def is_listed(self) -> bool:
        """Whether each layer is an array of its own."""
        return isinstance(self.key_LBKSH, list)

    def write(self, new: "Cache", offset: jax.Array | int) -> "Cache":
        """Put new positions in from `offset` on, of all layers. They must fit: JAX clamps the offset."""
        return jax.tree.map(lambda leaf, more: _put(leaf, more, offset), self, new)


class Past(NamedTuple):
    """The cached keys and values of a layer, and the `offset` from which on it is to write its new ones before it
    reads; None: it only reads, and all layers' are written afterwards.
    """

    cached: KeyValue
    offset: jax.Array | int | None

    def written(self, new: KeyValue) -> KeyValue:
        """Give them with the new ones."""
        key_BKSH, value_BKSH = (_put(old, each, self.offset) for old, each in zip(self.cached, new, strict=True))
        return key_BKSH, value_BKSH


def _put(cached: jax.Array, new: jax.Array, offset: Any) -> jax.Array:
    return jax.lax.dynamic_update_slice(cached, new.astype(cached.dtype), (*[0] * (cached.ndim - 2), offset, 0))
