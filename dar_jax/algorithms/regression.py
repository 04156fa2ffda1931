"""The regression every algorithm of this family shares: weighted maximum likelihood; and sums over examples.

DAR, AWR, best-of-n SFT and SFT differ in the weights alone (2504.14177, eq. of the regression loss):

    L(theta) = - mean over examples of  stopgrad(w(x, y)) * log pi_theta(y | x)
"""

import jax
import jax.numpy as jnp

from dar_jax.batches import Batch, Rollouts

Metrics = dict[str, jax.Array]


def batch_of(rollouts: Rollouts, weight_E: jax.Array, mask_E: jax.Array, *, reference: bool = False) -> Batch:
    """Make each completion an example of one row, with its weight and whether it counts; with log pi_ref if the loss
    is to see it.
    """
    return Batch(
        inputs_ER=jax.tree.map(_as_example, rollouts.inputs_B),
        mask_completion_ERT=_as_example(rollouts.mask_completion_BT),
        weight_E=weight_E,
        mask_E=mask_E,
        sampling_logprob_ERT=jax.tree.map(_as_example, rollouts.sampling_logprob_BT),
        ref_logprob_ERT=jax.tree.map(_as_example, rollouts.ref_logprob_BT) if reference else None,
    )


def _as_example(rows: jax.Array) -> jax.Array:
    return rows[:, None]


def weighted_regression(logprob_ERT: jax.Array, batch: Batch) -> tuple[jax.Array, Metrics]:
    """Return the loss **summed** over the batch's counted examples, and metrics summed alike.

    The learner divides by the number of counted examples of the whole update, once: so the loss
    does not depend on how an update is cut into micro-batches. log pi(y|x) is the sum over y's tokens.
    """
    logprob_E = completion_logprob(logprob_ERT, batch).sum(1)
    weight_E = jax.lax.stop_gradient(batch.weight_E)
    loss = -masked_total(weight_E * logprob_E, batch)
    metrics = {"loss": loss, "logprobs/completion": masked_total(logprob_E, batch)}
    return loss, jax.lax.stop_gradient(metrics | sampling_kl(logprob_ERT, batch))


def completion_logprob(logprob_ERT: jax.Array, batch: Batch) -> jax.Array:
    """Return the log-prob of each whole completion, `_ER`, nats."""
    return jnp.where(batch.mask_completion_ERT, logprob_ERT, 0.0).sum(2)


def masked_total(value_E: jax.Array, batch: Batch) -> jax.Array:
    """Sum over the examples that count."""
    return jnp.where(batch.mask_E, value_E, 0.0).sum()


def log_ratio(one_ERT: jax.Array | None, other_ERT: jax.Array | None, batch: Batch) -> jax.Array:
    """Return the difference of two log-probs of each of the completion's tokens, 0 elsewhere."""
    assert one_ERT is not None
    assert other_ERT is not None
    return jnp.where(batch.mask_completion_ERT, one_ERT - other_ERT, 0.0)


def k3(log_ratio: jax.Array) -> jax.Array:
    """Return the k3 estimate exp(r) - 1 - r of KL(q || p) from r = log p/q of samples of q (J. Schulman, 2020)."""
    return jnp.expm1(log_ratio) - log_ratio


def sampling_kl(logprob_ERT: jax.Array, batch: Batch) -> Metrics:
    """Sum the k3 estimate of KL(pi_t || pi_theta) over examples, nats a completion; nothing without log pi_t."""
    if batch.sampling_logprob_ERT is None:
        return {}
    k3_ERT = k3(log_ratio(logprob_ERT, batch.sampling_logprob_ERT, batch))
    return {"kl/sampling_k3": masked_total(k3_ERT.sum(2).mean(1), batch)}
