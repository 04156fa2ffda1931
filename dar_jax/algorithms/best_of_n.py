"""Best-of-n fine-tuning, or RAFT (Dong et al., arXiv 2304.06767): SFT on each prompt's best completion.

    L(theta) = - mean over prompts of log pi_theta(y* | x)

with y* the completion of the prompt's group that has the highest reward.
"""

from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from pydantic.dataclasses import dataclass

from dar_jax.algorithms.base import Online, advantages, online_metrics
from dar_jax.algorithms.losses import Metrics, batch_of
from dar_jax.batches import Batch, Rewards, Rollouts, measured
from dar_jax.settings.fields import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class BestOfN(Online):
    """SFT on the best of the `group_size` completions of each prompt, the first of equals."""

    min_group_size: ClassVar[int] = 2

    name: Literal["best_of_n"] = "best_of_n"

    def examples(self, prompts: int, group_size: int) -> int:
        """Return the number of examples that `weigh` makes: one a prompt."""
        return prompts

    def weigh(self, rollouts: Rollouts, rewards: Rewards) -> tuple[Batch, Metrics]:
        """Return a batch of each prompt's best completion; none where fewer than two are scored."""
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
