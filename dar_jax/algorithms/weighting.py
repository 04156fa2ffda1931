"""From log-weights to regression weights, clipped before the exponential.

With z-scored advantages and tau = 0.05 the exponent passes float32's 88.7 on ordinary batches; in log space
the clip comes first, so `exp` never sees more than log(weight_clip).
"""

import jax
import jax.numpy as jnp


def clipped_weight(log_weight: jax.Array, mask: jax.Array, weight_clip: float) -> jax.Array:
    """Return min(exp(log_weight), weight_clip), detached, and 0 where the mask is False."""
    clipped = jnp.exp(jnp.minimum(log_weight, jnp.log(jnp.asarray(weight_clip, log_weight.dtype))))
    return jax.lax.stop_gradient(jnp.where(mask, clipped, 0.0))


def effective_sample_size(weight: jax.Array) -> jax.Array:
    """Return (sum w)^2 / sum w^2, in samples; 0 for no weight at all."""
    square = (weight**2).sum()
    return jnp.where(square > 0, weight.sum() ** 2 / jnp.where(square > 0, square, 1.0), 0.0)
