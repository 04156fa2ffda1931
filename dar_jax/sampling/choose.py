"""From logits to the next token: temperature, top-k, top-p."""

import jax
import jax.numpy as jnp
from pydantic import Field, NonNegativeFloat, PositiveInt
from pydantic.dataclasses import dataclass

from dar_jax.settings import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Choice:
    """How the next token is drawn; temperature 0 takes the likeliest. Null and 1.0 turn a cut off."""

    temperature: NonNegativeFloat = 1.0
    top_k: PositiveInt | None = None
    top_p: float = Field(default=1.0, gt=0, le=1)

    @property
    def truncates(self) -> bool:
        """Whether some tokens can never be drawn."""
        return self.top_k is not None or self.top_p < 1

    def __call__(self, logits_BV: jax.Array, key_B: jax.Array) -> jax.Array:
        """Draw `token_B` with one random key a row."""
        if self.temperature == 0:
            return logits_BV.argmax(-1).astype(jnp.int32)
        logits_BV = self.truncate(logits_BV / self.temperature)
        size = logits_BV.shape[-1]
        noise_BV = jax.vmap(lambda key: jax.random.gumbel(key, (size,), logits_BV.dtype))(key_B)
        return (logits_BV + noise_BV).argmax(-1).astype(jnp.int32)

    def truncate(self, logits_BV: jax.Array) -> jax.Array:
        """Set the logits outside top-k, then outside top-p of what is left, to -inf."""
        if self.top_k is not None and self.top_k < logits_BV.shape[-1]:
            kept_BK = jax.lax.top_k(logits_BV, self.top_k)[0]
            logits_BV = jnp.where(logits_BV < kept_BK[:, -1:], -jnp.inf, logits_BV)
        if self.top_p < 1:
            descending_BV = -jnp.sort(-logits_BV, axis=-1)
            probability_BV = jax.nn.softmax(descending_BV, axis=-1)
            before_BV = jnp.cumsum(probability_BV, axis=-1) - probability_BV
            # The likeliest token always stays: nothing lies before it.
            lowest_B1 = jnp.where(before_BV < self.top_p, descending_BV, jnp.inf).min(-1, keepdims=True)
            logits_BV = jnp.where(logits_BV < lowest_B1, -jnp.inf, logits_BV)
        return logits_BV
