"""Checksums of trees of arrays over every bit and its position, independent of sharding."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dar_jax.parallel import to_host

_UNSIGNED = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32, 8: jnp.uint32}
_ODD = 0x9E3779B9


def checksums(trees: Mapping[str, Any]) -> dict[str, str]:
    """Return a checksum of each tree over the paths, dtypes, shapes and bits of its leaves.

    One small program a shape reads each array in place and returns 32 bits; no array is copied.
    """
    return dict(zip(trees, map(_described, to_host([_sums(tree) for tree in trees.values()])), strict=True))


def checksum(tree: Any) -> str:
    """Return the checksum of one tree (see `checksums`)."""
    return checksums({"tree": tree})["tree"]


def digest(value: Any) -> str:
    """Return a digest of plain values, equal for equal JSON."""
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=8).hexdigest()


def _sums(tree: Any) -> dict[str, jax.Array]:
    # One at a time: on CPUs the collectives of many concurrent programs deadlock (jax 0.10, two hosts).
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        f"{jax.tree_util.keystr(path)} {leaf.dtype}{leaf.shape}": _sum(leaf).block_until_ready()
        for path, leaf in leaves
    }


def _described(sums: dict[str, np.ndarray]) -> str:
    return digest({name: int(total) for name, total in sums.items()})


@jax.jit
def _sum(leaf: jax.Array) -> jax.Array:
    """Return the sum of an array's words modulo 2^32, each mixed with its position, so that order does not matter."""
    bits = _words(leaf)
    index, stride = jnp.zeros(bits.shape, jnp.uint32), _ODD
    for axis in reversed(range(bits.ndim)):
        index += jax.lax.broadcasted_iota(jnp.uint32, bits.shape, axis) * np.uint32(stride)
        stride = stride * bits.shape[axis] % 2**32
    return _mixed(bits ^ index).sum(dtype=jnp.uint32)


def _words(leaf: jax.Array) -> jax.Array:
    """Return the bits of an array as 32-bit words; narrower elements take a word each."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    if leaf.dtype == jnp.bool_:
        return leaf.astype(jnp.uint32)
    return jax.lax.bitcast_convert_type(leaf, _UNSIGNED[leaf.dtype.itemsize]).astype(jnp.uint32)


def _mixed(word: jax.Array) -> jax.Array:
    """Return a mixed word, each input bit changing about half of the output's: a bijection (lowbias32, C. Wellons)."""
    word = (word ^ (word >> 16)) * jnp.uint32(0x7FEB352D)
    word = (word ^ (word >> 15)) * jnp.uint32(0x846CA68B)
    return word ^ (word >> 16)
