"""The inputs of method.md's golden test, 2 prompts x 4 completions of one token, and what is made of them."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dar_jax.batches import Batch, Inputs, Rewards, Rollouts, check

REWARD = np.array([[7.0, 8, 6, 7], [3, 9, 4, 5]])
SAMPLING = np.array([[-40, -42.5, -55, -38], [-61, -47.5, -52, -44]])
REFERENCE = np.array([[-43, -41.5, -57, -36], [-66, -49, -50, -45.5]])
THETA = np.array([[-39.5, -41.75, -55.5, -38.25], [-62, -46.5, -52.25, -44]])
Z_SCORED = (REWARD - REWARD.mean(1, keepdims=True)) / (REWARD - REWARD.mean(1, keepdims=True)).std()
VALUE = 4.0
# By their rewards, of each two completions in turn: the better one's row and the other's.
BETTER, WORSE = np.array([1, 3, 5, 7]), np.array([0, 2, 4, 6])


def rollouts(sampling: Any = SAMPLING, reference: Any = REFERENCE, ended: Sequence[bool] = (True,) * 8) -> Rollouts:
    """Give the completions; a row's number is its tokens."""
    rows = jnp.arange(8, dtype=jnp.int32)[:, None]
    return Rollouts(
        inputs_B=Inputs(token_BT=jnp.tile(rows, (1, 2)), mask_BS=jnp.ones((8, 2), bool)),
        mask_completion_BT=jnp.ones((8, 1), bool),
        ended_B=jnp.array(ended),
        sampler_logprob_BT=jnp.float32(SAMPLING.reshape(8, 1)),
        sampling_logprob_BT=jnp.asarray(sampling, jnp.float32).reshape(8, 1),
        ref_logprob_BT=jnp.asarray(reference, jnp.float32).reshape(8, 1),
        sampling_value_BT=jnp.full((8, 1), VALUE),
    )


def rewards(reward: Any = REWARD, valid: Any = True) -> Rewards:
    """Give the rewards, all of them valid unless said otherwise."""
    return Rewards(reward_PG=jnp.float32(reward), valid_PG=jnp.broadcast_to(jnp.asarray(valid), (2, 4)))


def loss_of(algorithm: Any, theta: Any = THETA, judged: Rewards | None = None, spoken: Rollouts | None = None) -> Any:
    """Return the mean loss over the examples that count, as the learner makes it, for log pi_theta of each row."""
    batch, _ = algorithm.weigh(spoken or rollouts(), judged or rewards())
    row_ER = check(batch).inputs_ER.token_BT[..., 0]
    logprob_ERT = jnp.asarray(theta, jnp.float32).reshape(-1)[row_ER][..., None]
    return regress(algorithm, logprob_ERT, batch)[0] / jnp.maximum(batch.mask_E.sum(), 1)


def regress(algorithm: Any, logprob_ERT: Any, batch: Batch) -> Any:
    """Regress as the learner does; a head reads the same everywhere."""
    read = [jnp.full(logprob_ERT.shape, VALUE)] if algorithm.head else []
    return algorithm.regress(logprob_ERT, batch, *read)


def gradient_of(algorithm: Any, theta: Any = THETA, judged: Rewards | None = None, spoken: Any = None) -> np.ndarray:
    """Return the mean loss's gradient by log pi_theta of each row."""
    theta_B = jnp.asarray(theta, jnp.float32).reshape(-1)
    return np.asarray(jax.grad(lambda theta_B: loss_of(algorithm, theta_B, judged, spoken))(theta_B))


def differences(values: Any) -> np.ndarray:
    """Take from each pair's better row the other."""
    flat = np.asarray(values).reshape(-1)
    return flat[BETTER] - flat[WORSE]
