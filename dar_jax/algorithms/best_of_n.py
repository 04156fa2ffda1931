"""Best-of-n fine-tuning, or RAFT (Dong et al., arXiv 2304.06767): SFT on each prompt's best completion.

    L(theta) = - mean over prompts of log pi_theta(y* | x)

with y* the completion of the prompt's group that has the highest reward.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from pydantic.dataclasses import dataclass

from dar_jax.algorithms.advantages import advantages
from dar_jax.algorithms.online import Online, online_metrics, two_or_more
from dar_jax.algorithms.regression import Metrics, batch_of, weighted_regression
from dar_jax.batches import Batch, Rewards, Rollouts, measured
from dar_jax.settings.fields import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class BestOfN(Online):
    """Learn the best of `group_size` completions of a prompt, the first of equals; n is the group's size."""

    name: Literal["best_of_n"] = "best_of_n"

    def reject_group_size(self, group_size: int) -> str | None:
        """Say why this group size cannot be learnt from, or None."""
        return two_or_more(group_size, self.name)

    def examples(self, prompts: int, group_size: int) -> int:
        """Count one example a prompt."""
        return prompts

    def weigh(self, rollouts: Rollouts, rewards: Rewards) -> tuple[Batch, Metrics]:
        """Pick each prompt's best; a prompt with fewer than two scored completions has none."""
        reward_PG = self.penalized(rollouts, rewards)
        advantage_PG, used_PG = advantages(reward_PG, rewards.valid_PG, normalize="none")
        prompts, group_size = reward_PG.shape
        best_P = jnp.where(used_PG, reward_PG, -jnp.inf).argmax(1)
        everything = batch_of(rollouts, jnp.ones(prompts * group_size), used_PG.reshape(-1))
        return everything.take(jnp.arange(prompts) * group_size + best_P), {
            **online_metrics(rollouts, rewards),
            "best_of_n/gain": measured(jnp.where(used_PG, advantage_PG, -jnp.inf).max(1, initial=0.0).mean(), used_PG),
            "completion/advantage": advantage_PG,
            "completion/weight": jax.nn.one_hot(best_P, group_size) * used_PG,
        }

    def regress(self, logprob_ERT: jax.Array, batch: Batch) -> tuple[jax.Array, Metrics]:
        """Return the negative log-likelihood of the best, summed over examples."""
        return weighted_regression(logprob_ERT, batch)
