"""How pi_t speaks: our own KV-cache sampler, and its tokens read as words."""

from dar_jax.sampling.choose import Choice
from dar_jax.sampling.recorded import recorded
from dar_jax.sampling.sampler import Sampler, Sampling
from dar_jax.sampling.text import completions, local_completions, rewards

__all__ = ["Choice", "Sampler", "Sampling", "completions", "local_completions", "recorded", "rewards"]
