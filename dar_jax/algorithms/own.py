"""What an algorithm has of its own beside the policy; a checkpoint keeps it.

memory   a few numbers that it carries from one step to the next
head     parameters that are trained with the policy and read its hidden states
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import optax

HeadParams = dict[str, jax.Array]


@dataclass(frozen=True, kw_only=True)
class Head:
    """How a head begins, for hidden states of so many numbers; what it reads, `_BT`, of `hidden_BTD`, the state before
    each of the completion's tokens; and what trains it.

    `weigh` finds what was read at pi_t in the rollouts, `regress` is given what is read at pi_theta.
    """

    begin: Callable[[int], HeadParams]
    read: Callable[[HeadParams, jax.Array], jax.Array]
    optimizer: optax.GradientTransformation


class Forgetful:
    """An algorithm with nothing of its own. One that has says what it begins with and what it makes of a step."""

    def begin(self) -> dict[str, float]:
        """Return what the first step starts from; `weigh` is given it as `memory` where it is not empty."""
        return {}

    def learnt(self, memory: Mapping[str, float], metrics: Mapping[str, float]) -> dict[str, float]:
        """Return what the next step starts from, by what the last one measured."""
        return dict(memory)

    @property
    def head(self) -> Head | None:
        """Describe the head, if there is one."""
        return None
