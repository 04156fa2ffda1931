"""Find arrays with NaN or infinite numbers."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from dar_jax.parallel import whole

_SHOWN = 8


def not_finite(tree: Any, mesh: Mesh) -> list[str]:
    """Return the paths of arrays with NaN or infinite numbers, for stacked layers also the layers.

    A collective: every host must call it.
    """
    finite = whole(jax.jit(_finite)(tree), mesh)
    return [
        jax.tree_util.keystr(path, simple=True, separator="/") + _layers(finite_L)
        for path, finite_L in jax.tree_util.tree_leaves_with_path(finite)
        if not finite_L.all()
    ]


def some(names: Sequence[str]) -> str:
    """Return the first names, and the number of the others."""
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _finite(tree: Any) -> Any:
    def of(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
        stacked = any(getattr(key, "key", None) == "layers" for key in path)
        return jnp.isfinite(leaf).all(axis=tuple(range(1, leaf.ndim)) if stacked and leaf.ndim else None)

    return jax.tree_util.tree_map_with_path(of, tree)


def _layers(finite_L: np.ndarray) -> str:
    if not finite_L.ndim:
        return ""
    return f" (layers {', '.join(map(str, _first(np.flatnonzero(~finite_L))))})"


def _first(layers: np.ndarray) -> Iterator[Any]:
    yield from layers[:_SHOWN].tolist()
    if len(layers) > _SHOWN:
        yield "..."
