"""The clipped surrogate of PPO (Schulman et al., arXiv 1707.06347), token by token."""

import jax
import jax.numpy as jnp

from dar_jax.algorithms.regression import Metrics, log_ratio, masked_total
from dar_jax.batches import Batch


def clipped_surrogate(
    logprob_ERT: jax.Array, batch: Batch, advantage_ERT: jax.Array, clip: float
) -> tuple[jax.Array, Metrics]:
    """Return `surrogate_ERT` = min(q A, clip(q, 1 - clip, 1 + clip) A), q = pi_theta / pi_t of the token, and
    the share of tokens at the clip, summed over examples.
    """
    log_q_ERT = log_ratio(logprob_ERT, batch.sampling_logprob_ERT, batch)
    q_ERT, advantage_ERT = jnp.exp(log_q_ERT), jax.lax.stop_gradient(advantage_ERT)
    kept_ERT = jnp.clip(q_ERT, 1 - clip, 1 + clip) * advantage_ERT
    surrogate_ERT = jnp.minimum(q_ERT * advantage_ERT, kept_ERT)
    at_clip_ERT = (kept_ERT < q_ERT * advantage_ERT).astype(logprob_ERT.dtype)
    return surrogate_ERT, {"surrogate/clip_fraction": masked_total(sequence_mean(at_clip_ERT, batch), batch)}


def sequence_mean(value_ERT: jax.Array, batch: Batch) -> jax.Array:
    """Average over the completion's tokens, as `_E`; each example has one row."""
    mask_ERT = batch.mask_completion_ERT
    return jnp.where(mask_ERT, value_ERT, 0.0).sum((1, 2)) / jnp.maximum(mask_ERT.sum((1, 2)), 1)
