"""Completions of a prompt two by two, the better first: what the pairwise losses learn from.

    margin = tau ( D log pi_theta - rho D log pi_ref - (1 - rho) D log pi_t ),   D f = f(y+) - f(y-)

rho = 1 is the margin of DPO (arXiv 2305.18290, with tau its beta), rho = 0 that of REBEL (arXiv 2404.16767, with tau
its 1/eta); between them lies the margin that both KL terms of DAR give, since the normaliser of DAR's optimum
cancels: at that optimum the margin is r(y+) - r(y-).
"""

import dataclasses

import jax
import jax.numpy as jnp

from dar_jax.algorithms.regression import Metrics, batch_of, completion_logprob, masked_total, sampling_kl
from dar_jax.batches import Batch, Rollouts, measured_mean


def pairs_of(rollouts: Rollouts, reward_PG: jax.Array, valid_PG: jax.Array) -> Batch:
    """Make an example of every two completions that follow each other, E = P G / 2, R = 2, the better one first.

    `weight_E` is what its reward is above the other's (0 or more, reward units); `mask_E` that both are scored.
    """
    reward_E2, valid_E2 = (jnp.reshape(array, (-1, 2)) for array in (reward_PG, valid_PG))
    mask_E = valid_E2.all(1)
    gain_E = jnp.where(mask_E, reward_E2[:, 1] - reward_E2[:, 0], 0.0)
    rows = batch_of(rollouts, reward_PG.reshape(-1), valid_PG.reshape(-1), reference=True)
    pairs = jax.tree.map(lambda leaf: _paired(leaf, gain_E), rows)
    return dataclasses.replace(pairs, weight_E=jnp.abs(gain_E), mask_E=mask_E)


def _paired(rows: jax.Array, gain_E: jax.Array) -> jax.Array:
    """Put rows of one two by two, the second first where it gains."""
    pair = rows.reshape(-1, 2, *rows.shape[2:])
    return jnp.where(jnp.expand_dims(gain_E > 0, range(1, pair.ndim)), pair[:, ::-1], pair)


def margin_of(logprob_ERT: jax.Array, batch: Batch, *, tau: float, rho: float) -> jax.Array:
    """Return `margin_E`. log pi_t is not looked at where rho is 1, nor log pi_ref where it is 0."""
    log_ratio_ER = completion_logprob(logprob_ERT, batch)
    for share, recalled_ERT in ((rho, batch.ref_logprob_ERT), (1 - rho, batch.sampling_logprob_ERT)):
        if share:
            assert recalled_ERT is not None
            log_ratio_ER -= share * completion_logprob(recalled_ERT, batch)
    return tau * (log_ratio_ER[:, 0] - log_ratio_ER[:, 1])


def pairwise_loss(
    loss_E: jax.Array, margin_E: jax.Array, logprob_ERT: jax.Array, batch: Batch
) -> tuple[jax.Array, Metrics]:
    """Return the loss and its metrics (names as TRL's), summed over counted examples."""
    loss = masked_total(loss_E, batch)
    logprob_ER = completion_logprob(logprob_ERT, batch)
    metrics = {
        "loss": loss,
        "rewards/margins": masked_total(margin_E, batch),
        "rewards/accuracies": masked_total((margin_E > 0).astype(margin_E.dtype), batch),
        "logprobs/chosen": masked_total(logprob_ER[:, 0], batch),
        "logprobs/rejected": masked_total(logprob_ER[:, 1], batch),
    }
    return loss, jax.lax.stop_gradient(metrics | sampling_kl(logprob_ERT, batch))


def pair_metrics(batch: Batch) -> Metrics:
    """Describe the pairs: the share that is scored, that of ties among these, the mean gain (reward units)."""
    tie_E = (batch.weight_E == 0).astype(jnp.float32)
    return {
        "pairs/valid_fraction": batch.mask_E.mean(dtype=jnp.float32),
        "pairs/tie_fraction": measured_mean(tie_E, batch.mask_E),
        "pairs/gain": measured_mean(batch.weight_E, batch.mask_E),
    }
