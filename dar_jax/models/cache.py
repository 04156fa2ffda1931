"""Keys and values of the positions already read."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from dar_jax.models.config import DecoderConfig

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

    def repeat(self, times: int) -> "Cache":
        """Give each row `times` copies side by side: a prompt's cache becomes that of its completions."""
        return self._each(lambda leaf: jnp.repeat(leaf, times, axis=1))

    def grow(self, positions: int) -> "Cache":
        """Append empty positions until there are `positions`."""
        more = positions - self.key_LBKSH.shape[3]
        return self._each(lambda leaf: jnp.pad(leaf, [(0, 0)] * 3 + [(0, more), (0, 0)]))

    def write(self, new: "Cache", offset: jax.Array | int) -> "Cache":
        """Put new positions in from `offset` on, of all layers. They must fit: JAX clamps the offset."""

        def put(leaf: jax.Array, new: jax.Array) -> jax.Array:
            at = [0] * leaf.ndim
            return jax.lax.dynamic_update_slice(leaf, new.astype(leaf.dtype), (*at[:-2], offset, 0))

        return jax.tree.map(put, self, new)

    def _each(self, change: Callable[[jax.Array], jax.Array]) -> "Cache":
        return Cache(key_LBKSH=change(self.key_LBKSH), value_LBKSH=change(self.value_LBKSH))
