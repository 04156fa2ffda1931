"""From log-weights to regression weights, clipped before the exponential.

With z-scored advantages and tau = 0.05 the exponent passes float32's 88.7 on ordinary batches; in log space
the clip comes first, so `exp` never sees more than log(weight_clip).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from dar_jax.batches import measured, measured_mean

_NEAR_ZERO = 0.05


@dataclass(frozen=True, kw_only=True)
class Weighing:
    """The log-weights of a batch in their two terms, and what counts: `used_PG`; the coefficients, if they move."""

    from_reference_PG: jax.Array
    from_advantage_PG: jax.Array
    used_PG: jax.Array
    weight_clip: float
    coefficients: Mapping[str, Any] = field(default_factory=dict)

    @property
    def log_weight_PG(self) -> jax.Array:
        """The weights' logarithms before the clip; 0 where nothing counts."""
        return jnp.where(self.used_PG, self.from_reference_PG + self.from_advantage_PG, 0.0)

    @property
    def weight_PG(self) -> jax.Array:
        """The detached weights; 0 where nothing counts."""
        return clipped_weight(self.log_weight_PG, self.used_PG, self.weight_clip)

    def metrics(self) -> dict[str, jax.Array]:
        """Describe the weights; `dar/log_weight_*` are mean sizes of the two terms, `dar/reference_share` the
        reference's part of their sum.
        """
        used_PG, weight_PG = self.used_PG, self.weight_PG
        reference = measured_mean(jnp.abs(self.from_reference_PG), used_PG)
        advantage = measured_mean(jnp.abs(self.from_advantage_PG), used_PG)
        both, size = reference + advantage, effective_sample_size(weight_PG)
        clipped_PG = self.log_weight_PG >= jnp.log(self.weight_clip)
        return {
            **{name: jnp.asarray(value) for name, value in self.coefficients.items()},
            "dar/clip_fraction": measured_mean(clipped_PG.astype(jnp.float32), used_PG),
            "dar/near_zero_fraction": measured_mean((weight_PG < _NEAR_ZERO).astype(jnp.float32), used_PG),
            "dar/weight_mean": measured_mean(weight_PG, used_PG),
            "dar/weight_max": measured(weight_PG.max(), used_PG),
            "dar/effective_sample_size": size,
            "dar/effective_sample_share": measured(size / jnp.maximum(used_PG.sum(), 1), used_PG),
            "dar/log_weight_reference": reference,
            "dar/log_weight_advantage": advantage,
            "dar/reference_share": measured(
                jnp.where(both > 0, reference / jnp.where(both > 0, both, 1.0), 0.0), used_PG
            ),
            "dar/used_fraction": used_PG.mean(dtype=jnp.float32),
        }


def clipped_weight(log_weight: jax.Array, mask: jax.Array, weight_clip: float) -> jax.Array:
    """Return min(exp(log_weight), weight_clip), detached, and 0 where the mask is False."""
    clipped = jnp.exp(jnp.minimum(log_weight, jnp.log(jnp.asarray(weight_clip, log_weight.dtype))))
    return jax.lax.stop_gradient(jnp.where(mask, clipped, 0.0))


def effective_sample_size(weight: jax.Array) -> jax.Array:
    """Return (sum w)^2 / sum w^2, in samples; 0 for no weight at all."""
    square = (weight**2).sum()
    return jnp.where(square > 0, weight.sum() ** 2 / jnp.where(square > 0, square, 1.0), 0.0)
