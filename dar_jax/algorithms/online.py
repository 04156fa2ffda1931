"""What the algorithms that learn from judged samples of their own have in common."""

from typing import ClassVar

import jax
from pydantic.dataclasses import dataclass

from dar_jax.algorithms.measures import completion_metrics, reference_kl_metrics, reward_metrics, sampler_gap_metrics
from dar_jax.algorithms.own import Forgetful
from dar_jax.batches import Rewards, Rollouts
from dar_jax.settings.fields import STRICT, PositiveOrZero


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Online(Forgetful):
    """The settings and declarations of an online algorithm.

    `missing_eos_penalty` (reward units, off) is taken from the reward of a completion that was cut off. All of them
    have log pi_ref fetched, those too that learn without: KL(pi_t || pi_ref) is what they are compared by.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"rewards", "sampling", "reference"})
    rows_per_example: ClassVar[int] = 1

    missing_eos_penalty: PositiveOrZero = 0.0

    def reject_group_size(self, group_size: int) -> str | None:
        """Say why this group size cannot be learnt from, or None."""
        return None

    def examples(self, prompts: int, group_size: int) -> int:
        """Count the examples that `weigh` makes of so many completions of so many prompts."""
        return prompts * group_size // self.rows_per_example

    def penalized(self, rollouts: Rollouts, rewards: Rewards) -> jax.Array:
        """Return `reward_PG`, less the penalty where EOS is missing."""
        ended_PG = rollouts.ended_B.reshape(rewards.reward_PG.shape)
        return rewards.reward_PG - self.missing_eos_penalty * ~ended_PG


def online_metrics(rollouts: Rollouts, rewards: Rewards) -> dict[str, jax.Array]:
    """Describe rewards, completions, the sampler and KL(pi_t || pi_ref)."""
    return {
        **reward_metrics(rewards),
        **completion_metrics(rollouts),
        **sampler_gap_metrics(rollouts),
        **reference_kl_metrics(rollouts),
    }


def two_or_more(group_size: int, name: str) -> str | None:
    """Say that an algorithm which compares the completions of a prompt needs several, or None."""
    if group_size > 1:
        return None
    return f"{name} compares the completions of a prompt, got a group_size of 1; sample 2 or more"
