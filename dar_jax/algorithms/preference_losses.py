"""Losses of a margin between the better and the worse completion, one an example."""

import jax
import jax.numpy as jnp


def logistic(margin_E: jax.Array, label_smoothing: float = 0.0) -> jax.Array:
    """Return -(1 - s) log sigmoid(margin) - s log sigmoid(-margin): DPO's, with labels wrong at the rate s."""
    right, wrong = jax.nn.log_sigmoid(margin_E), jax.nn.log_sigmoid(-margin_E)
    return -(1 - label_smoothing) * right - label_smoothing * wrong


def squared(margin_E: jax.Array, target_E: jax.Array | float) -> jax.Array:
    """Return (margin - target)^2: IPO's and REBEL's."""
    return (margin_E - target_E) ** 2


def hinge(margin_E: jax.Array) -> jax.Array:
    """Return max(0, 1 - margin): SLiC's."""
    return jnp.maximum(0.0, 1.0 - margin_E)
