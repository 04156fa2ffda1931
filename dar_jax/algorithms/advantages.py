"""From rewards to advantages: a baseline, then a normalisation, over the scored completions alone."""

from typing import Literal

import jax
import jax.numpy as jnp

Baseline = Literal["prompt", "leave_one_out", "batch"]
Normalize = Literal["batch", "prompt", "none"]
Deviation = Literal["population", "sample"]


def advantages(
    reward_PG: jax.Array,
    valid_PG: jax.Array,
    *,
    baseline: Baseline = "prompt",
    normalize: Normalize = "batch",
    deviation: Deviation = "population",
) -> tuple[jax.Array, jax.Array]:
    """Return `advantage_PG` and `used_PG`, the entries that have one.

    A per-prompt baseline compares completions of one prompt, so a group with fewer than two scored
    members has no advantage; with one completion a prompt (G = 1) the batch mean is the baseline
    (2504.14177 reports DAR robust at K = 1, where a prompt's own mean would leave nothing).
    """
    if reward_PG.shape[1] == 1:
        baseline, normalize = "batch", "none" if normalize == "none" else "batch"
    needed = 1 if baseline == "batch" else 2
    used_PG = valid_PG & (valid_PG.sum(1, keepdims=True) >= needed)
    reward_PG = jnp.where(used_PG, reward_PG, 0.0)
    centred_PG = jnp.where(used_PG, reward_PG - _baseline(reward_PG, used_PG, baseline), 0.0)
    # Rewards that agree to rounding carry no signal: dividing their noise by itself would invent one.
    noise = 8 * jnp.finfo(reward_PG.dtype).eps * jnp.abs(reward_PG).max() + 1e-8
    if normalize == "none":
        return jnp.where(jnp.abs(centred_PG) <= noise, 0.0, centred_PG), used_PG
    axis = 1 if normalize == "prompt" else None
    return _standardize(centred_PG, used_PG, axis, deviation, noise), used_PG


def _baseline(reward_PG: jax.Array, used_PG: jax.Array, baseline: Baseline) -> jax.Array:
    axis = None if baseline == "batch" else 1
    total = reward_PG.sum(axis, keepdims=True)
    count = used_PG.sum(axis, keepdims=True)
    if baseline == "leave_one_out":
        return (total - reward_PG) / jnp.maximum(count - 1, 1)
    return total / jnp.maximum(count, 1)


def _standardize(
    centred_PG: jax.Array,
    used_PG: jax.Array,
    axis: int | None,
    deviation: Deviation,
    noise: jax.Array,
) -> jax.Array:
    count = used_PG.sum(axis, keepdims=True)
    mean = centred_PG.sum(axis, keepdims=True) / jnp.maximum(count, 1)
    residual_PG = jnp.where(used_PG, centred_PG - mean, 0.0)
    divisor = count - 1 if deviation == "sample" else count
    variance = (residual_PG**2).sum(axis, keepdims=True) / jnp.maximum(divisor, 1)
    std = jnp.sqrt(variance)
    return jnp.where(std > noise, residual_PG / jnp.where(std > noise, std, 1.0), 0.0)
