"""The regression every algorithm of this family shares: weighted maximum likelihood.

DAR, AWR, best-of-n SFT and SFT differ in the weights alone (2504.14177, eq. of the regression loss):

    L(theta) = - mean over examples of  stopgrad(w(x, y)) * log pi_theta(y | x)
"""

import jax
import jax.numpy as jnp

from dar_jax.batches import Batch, Rollouts

Metrics = dict[str, jax.Array]


def batch_of(rollouts: Rollouts, weight_E: jax.Array, mask_E: jax.Array) -> Batch:
    """Make each completion an example of one row, with its weight and whether it counts."""
    scored_BT = rollouts.sampling_logprob_BT
    return Batch(
        inputs_ER=jax.tree.map(lambda leaf: leaf[:, None], rollouts.inputs_B),
        mask_completion_ERT=rollouts.mask_completion_BT[:, None],
        weight_E=weight_E,
        mask_E=mask_E,
        sampling_logprob_ERT=None if scored_BT is None else scored_BT[:, None],
    )


def weighted_regression(logprob_ERT: jax.Array, batch: Batch) -> tuple[jax.Array, Metrics]:
    """Return the loss **summed** over the batch's counted examples, and metrics summed alike.

    The learner divides by the number of counted examples of the whole update, once: so the loss
    does not depend on how an update is cut into micro-batches. log pi(y|x) is the sum over y's tokens.
    """
    token_logprob_ERT = jnp.where(batch.mask_completion_ERT, logprob_ERT, 0.0)
    logprob_E = token_logprob_ERT.sum((1, 2))
    weight_E = jax.lax.stop_gradient(batch.weight_E)
    loss = -jnp.where(batch.mask_E, weight_E * logprob_E, 0.0).sum()
    metrics = {"loss": loss, "logprobs/completion": jnp.where(batch.mask_E, logprob_E, 0.0).sum()}
    if batch.sampling_logprob_ERT is not None:
        metrics["kl/sampling_k3"] = _kl_k3(logprob_ERT, batch)
    return loss, jax.lax.stop_gradient(metrics)


def _kl_k3(logprob_ERT: jax.Array, batch: Batch) -> jax.Array:
    """Sum the k3 estimate of KL(pi_t || pi_theta) over examples, nats a completion (J. Schulman, 2020)."""
    assert batch.sampling_logprob_ERT is not None
    log_theta_over_sampling_ERT = logprob_ERT - batch.sampling_logprob_ERT
    k3_ERT = jnp.expm1(log_theta_over_sampling_ERT) - log_theta_over_sampling_ERT
    counted_ERT = batch.mask_completion_ERT & batch.mask_E[:, None, None]
    return jnp.where(counted_ERT, k3_ERT, 0.0).sum()
