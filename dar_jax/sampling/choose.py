"""Choose the next token from logits: temperature, top-k, top-p, then an inverse CDF in two levels.

One uniform number selects a block of the vocabulary by its probability, a second one a token in that block. Gumbel
noise would draw a number a logit, which on a CPU costs more than the model. Axes as in `batches.py`, with `U` blocks of
the vocabulary and `W` tokens a block.
"""

import math

import jax
import jax.numpy as jnp
from pydantic import Field
from pydantic.dataclasses import dataclass

from dar_jax.settings.fields import STRICT, Count, PositiveOrZero, Share


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Choice:
    """How the next token is drawn; temperature 0 is greedy. `top_k` null and `top_p` 1.0 are off."""

    temperature: PositiveOrZero = 1.0
    top_k: Count | None = None
    top_p: Share = Field(default=1.0, gt=0)

    @property
    def truncates(self) -> bool:
        """Whether some tokens can never be drawn."""
        return self.top_k is not None or self.top_p < 1

    def __call__(self, logits_BV: jax.Array, key_B: jax.Array) -> jax.Array:
        """Draw `token_B` with one random key a row."""
        if self.temperature == 0:
            return logits_BV.argmax(-1).astype(jnp.int32)
        logits_BUW = _blocks(self.truncate(logits_BV / self.temperature))
        top_B, mass_BU = _masses(logits_BUW)
        uniform_2B = jax.vmap(lambda key: jax.random.uniform(key, (2,)), out_axes=1)(key_B)
        block_B = pick(mass_BU, uniform_2B[0])
        logits_BW = jnp.take_along_axis(logits_BUW, block_B[:, None, None], 1)[:, 0]
        within_B = pick(jnp.exp(logits_BW - top_B[:, None]), uniform_2B[1])
        return block_B * logits_BUW.shape[-1] + within_B

    def truncate(self, logits_BV: jax.Array) -> jax.Array:
        """Return the logits with -inf outside top-k, then outside top-p of the rest."""
        if self.top_k is not None and self.top_k < logits_BV.shape[-1]:
            kept_BK = jax.lax.top_k(logits_BV, self.top_k)[0]
            logits_BV = jnp.where(logits_BV < kept_BK[:, -1:], -jnp.inf, logits_BV)
        if self.top_p < 1:
            descending_BV = -jnp.sort(-logits_BV, axis=-1)
            probability_BV = jax.nn.softmax(descending_BV, axis=-1)
            before_BV = jnp.cumsum(probability_BV, axis=-1) - probability_BV
            # The most likely token always stays: no probability comes before it.
            lowest_B1 = jnp.where(before_BV < self.top_p, descending_BV, jnp.inf).min(-1, keepdims=True)
            logits_BV = jnp.where(logits_BV < lowest_B1, -jnp.inf, logits_BV)
        return logits_BV


def logprobs(logits_BV: jax.Array, token_B: jax.Array) -> jax.Array:
    """Return the log-prob of one token a row under softmax(logits).

    Its sums over the vocabulary are the same expressions as those of the draw, so that XLA computes them once if both
    use the same logits.
    """
    top_B, mass_BU = _masses(_blocks(logits_BV))
    return jnp.take_along_axis(logits_BV, token_B[:, None], 1)[:, 0] - top_B - jnp.log(mass_BU.sum(-1))


def pick(mass_BW: jax.Array, uniform_B: jax.Array) -> jax.Array:
    """Return the inverse CDF of unnormalized probabilities at numbers in [0, 1); entries of mass 0 are never chosen."""
    # A parallel cumulative sum may decrease by rounding: only entries with mass may end the search.
    upto_BW = jnp.where(mass_BW > 0, jnp.cumsum(mass_BW, -1), 0.0)
    return (upto_BW > uniform_B[:, None] * upto_BW.max(-1, keepdims=True)).argmax(-1).astype(jnp.int32)


def _blocks(logits_BV: jax.Array) -> jax.Array:
    """Split the vocabulary into `[B, U, W]`; U is a power of two, so that devices which shard it hold whole blocks."""
    rows, size = logits_BV.shape
    padded_BV = jnp.pad(logits_BV, ((0, 0), (0, -size % 128)), constant_values=-jnp.inf)
    return padded_BV.reshape(rows, math.gcd(padded_BV.shape[-1], 256), -1)


def _masses(logits_BUW: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return each row's greatest logit, and each block's sum of exp(logit - greatest)."""
    top_B = logits_BUW.max((-2, -1))
    return top_B, jnp.exp(logits_BUW - top_B[:, None, None]).sum(-1)
