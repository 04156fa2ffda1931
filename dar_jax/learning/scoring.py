"""Log-probs of given tokens, computed in chunks so that the `[B, T, V]` logits are never held.

One function scores pi_theta, pi_t and pi_ref, so that equal parameters give equal log-probs to the bit.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from dar_jax.batches import Inputs
from dar_jax.models import DecoderConfig, Params, bind


def completion_logprobs(
    config: DecoderConfig,
    params: Params,
    inputs: Inputs,
    length: int,
    *,
    temperature: float = 1.0,
    chunk: int = 64,
    gradients: Params | None = None,
    remat: bool = True,
) -> tuple[jax.Array, jax.Array]:
    """Return `logprob_BT`, log p(token | all tokens before it) of the last `length` = T positions, and `hidden_BTD`,
    the hidden states before each of these tokens.

    Nats, float32, under softmax(logits / temperature). Values at masked positions are meaningless: mask them. Padding
    may be on either side; RoPE counts real tokens only. `gradients` are those of the
    layers, and `remat` is for their way back, as `Decoder` takes them.
    """
    model = bind(config, params)
    hidden_BSD, _ = model(inputs, grad_sums=gradients, remat=remat)
    hidden_BTD = hidden_BSD[:, -length - 1 : -1]
    logprob_BT = chunked_logprobs(
        model.logits, hidden_BTD, inputs.token_BT[:, -length:], temperature=temperature, chunk=chunk
    )
    return logprob_BT, hidden_BTD


def chunked_logprobs(
    logits: Callable[[jax.Array], jax.Array],
    hidden_BTD: jax.Array,
    target_BT: jax.Array,
    *,
    temperature: float = 1.0,
    chunk: int = 64,
) -> jax.Array:
    """Return `logprob_BT` of the targets; logits of at most `chunk` positions are held at a time."""
    rows, length = target_BT.shape
    if length <= chunk:
        return _logprobs(logits, hidden_BTD, target_BT, temperature)
    count = -(-length // chunk)
    pad = count * chunk - length
    hidden = jnp.pad(hidden_BTD, ((0, 0), (0, pad), (0, 0))).reshape(rows, count, chunk, -1)
    target = jnp.pad(target_BT, ((0, 0), (0, pad))).reshape(rows, count, chunk)

    @jax.checkpoint
    def one(piece: tuple[jax.Array, jax.Array]) -> jax.Array:
        return _logprobs(logits, piece[0], piece[1], temperature)

    logprob = jax.lax.map(one, (hidden.swapaxes(0, 1), target.swapaxes(0, 1)))
    return logprob.swapaxes(0, 1).reshape(rows, -1)[:, :length]


def _logprobs(
    logits: Callable[[jax.Array], jax.Array],
    hidden_BTD: jax.Array,
    target_BT: jax.Array,
    temperature: float,
) -> jax.Array:
    logits_BTV = logits(hidden_BTD) / temperature
    # Comparing with an iota keeps a sharded vocabulary sharded; a gather would all-gather it.
    vocabulary_V = jax.lax.broadcasted_iota(jnp.int32, (1, 1, logits_BTV.shape[-1]), 2)
    picked_BT = jnp.where(vocabulary_V == target_BT[..., None], logits_BTV, 0.0).sum(-1)
    return picked_BT - jax.nn.logsumexp(logits_BTV, axis=-1)
