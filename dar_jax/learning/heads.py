"""The state of an algorithm's own head, which most do not have (`algorithms/own.py`); it is an empty tree then."""

from dataclasses import dataclass, field
from typing import Any

import jax
import optax

from dar_jax import models, parallel
from dar_jax.algorithms.base import Head, HeadParams


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class HeadState:
    """Float32 parameters and the state of their optimizer."""

    params: HeadParams = field(default_factory=dict)
    moments: Any = ()


def begun(head: Head | None, width: int) -> HeadState:
    """Make the state before the first update."""
    if head is None:
        return HeadState()
    params = head.init(width)
    return HeadState(params=params, moments=head.optimizer.init(params))


def abstract(head: Head | None, width: int, place: Any) -> HeadState:
    """Give the shapes of the state, each leaf in the same place."""
    shapes = jax.eval_shape(lambda: begun(head, width))
    placed: HeadState = parallel.placed(shapes, jax.tree.map(lambda _: place, shapes))
    return placed


def lent(state: HeadState, sums: HeadParams) -> HeadParams:
    """Give the parameters, whose gradient is added to `sums`."""
    return dict(jax.tree.map(lambda leaf, total: models.lend(leaf, total, leaf.dtype), state.params, sums))


def moved(head: Head | None, state: HeadState, gradients: HeadParams, scale: jax.Array) -> HeadState:
    """Make one update by `scale` times the gradients."""
    if head is None:
        return state
    scaled = jax.tree.map(lambda leaf: scale * leaf, gradients)
    updates, moments = head.optimizer.update(scaled, state.moments, state.params)
    return HeadState(params=dict(optax.apply_updates(state.params, updates)), moments=moments)
