"""Losses of an example, and the sums over examples that the learner divides once for a whole update.

DAR, AWR, best-of-n and SFT share one loss and differ in the weights alone (2504.14177):

    L(theta) = - mean over examples of  stopgrad(w(x, y)) * log pi_theta(y | x)
"""

import jax
import jax.numpy as jnp

from dar_jax.batches import Batch, Rollouts

Metrics = dict[str, jax.Array]


def batch_of(rollouts: Rollouts, weight_E: jax.Array, mask_E: jax.Array, *, reference: bool = False) -> Batch:
    """Return a batch whose examples are single completions; `reference` keeps log pi_ref for the loss."""
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
    """Return the loss and its metrics, both **summed** over the counted examples.

    The learner divides by the number of counted examples of the whole update, once: the loss does not depend on how an
    update is split into micro-batches. log pi(y|x) is the sum over y's tokens.
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
    """Return the sum over the counted examples."""
    return jnp.where(batch.mask_E, value_E, 0.0).sum()


def log_ratio(one_ERT: jax.Array | None, other_ERT: jax.Array | None, batch: Batch) -> jax.Array:
    """Return the difference of two log-probs at each token of the completion, 0 elsewhere."""
    assert one_ERT is not None
    assert other_ERT is not None
    return jnp.where(batch.mask_completion_ERT, one_ERT - other_ERT, 0.0)


def k3(log_ratio: jax.Array) -> jax.Array:
    """Return the k3 estimate exp(r) - 1 - r of KL(q || p) from r = log p/q of samples of q (J. Schulman, 2020)."""
    return jnp.expm1(log_ratio) - log_ratio


def sampling_kl(logprob_ERT: jax.Array, batch: Batch) -> Metrics:
    """Return the k3 estimate of KL(pi_t || pi_theta) summed over examples, nats a completion; {} without log pi_t."""
    if batch.sampling_logprob_ERT is None:
        return {}
    k3_ERT = k3(log_ratio(logprob_ERT, batch.sampling_logprob_ERT, batch))
    return {"kl/sampling_k3": masked_total(k3_ERT.sum(2).mean(1), batch)}


def clipped_surrogate(
    logprob_ERT: jax.Array, batch: Batch, advantage_ERT: jax.Array, clip: float
) -> tuple[jax.Array, Metrics]:
    """Return PPO's `surrogate_ERT` = min(q A, clip(q, 1 - clip, 1 + clip) A), with q = pi_theta / pi_t of the token
    (arXiv 1707.06347), and the share of tokens at the clip, summed over examples.
    """
    log_q_ERT = log_ratio(logprob_ERT, batch.sampling_logprob_ERT, batch)
    q_ERT, advantage_ERT = jnp.exp(log_q_ERT), jax.lax.stop_gradient(advantage_ERT)
    kept_ERT = jnp.clip(q_ERT, 1 - clip, 1 + clip) * advantage_ERT
    surrogate_ERT = jnp.minimum(q_ERT * advantage_ERT, kept_ERT)
    at_clip_ERT = (kept_ERT < q_ERT * advantage_ERT).astype(logprob_ERT.dtype)
    return surrogate_ERT, {"surrogate/clip_fraction": masked_total(sequence_mean(at_clip_ERT, batch), batch)}


def sequence_mean(value_ERT: jax.Array, batch: Batch) -> jax.Array:
    """Return the mean over the completion's tokens, `_E`; each example has one row."""
    mask_ERT = batch.mask_completion_ERT
    return jnp.where(mask_ERT, value_ERT, 0.0).sum((1, 2)) / jnp.maximum(mask_ERT.sum((1, 2)), 1)


def logistic(margin_E: jax.Array, label_smoothing: float = 0.0) -> jax.Array:
    """Return -(1 - s) log sigmoid(margin) - s log sigmoid(-margin): DPO's loss, with labels wrong at the rate s."""
    right, wrong = jax.nn.log_sigmoid(margin_E), jax.nn.log_sigmoid(-margin_E)
    return -(1 - label_smoothing) * right - label_smoothing * wrong


def squared(margin_E: jax.Array, target_E: jax.Array | float) -> jax.Array:
    """Return (margin - target)^2: the loss of IPO and REBEL."""
    return (margin_E - target_E) ** 2


def hinge(margin_E: jax.Array) -> jax.Array:
    """Return max(0, 1 - margin): the loss of SLiC."""
    return jnp.maximum(0.0, 1.0 - margin_E)
