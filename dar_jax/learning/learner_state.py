"""The state that training changes: parameters, optimizer, and the head of an algorithm that has one."""

from dataclasses import dataclass, field
from typing import Any

import jax
import optax

from dar_jax import models
from dar_jax.algorithms.base import Head, HeadParams
from dar_jax.models import Params


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class HeadState:
    """Float32 parameters of a trainable head and its optimizer state; both empty for an algorithm without a head."""

    params: HeadParams = field(default_factory=dict)
    moments: Any = ()

    @classmethod
    def init(cls, head: Head | None, width: int) -> "HeadState":
        """Return the state before the first update, for hidden states of this width."""
        if head is None:
            return cls()
        params = head.init(width)
        return cls(params=params, moments=head.optimizer.init(params))

    def with_grad_accumulation(self, sums: HeadParams) -> HeadParams:
        """Return the parameters; the gradient through them is added to `sums`."""
        return dict(
            jax.tree.map(
                lambda leaf, total: models.cast_with_grad_accumulation(leaf, total, leaf.dtype), self.params, sums
            )
        )

    def updated(self, head: Head | None, gradients: HeadParams, scale: jax.Array) -> "HeadState":
        """Return the state after one update by `scale` times the gradients."""
        if head is None:
            return self
        scaled = jax.tree.map(lambda leaf: scale * leaf, gradients)
        updates, moments = head.optimizer.update(scaled, self.moments, self.params)
        return HeadState(params=dict(optax.apply_updates(self.params, updates)), moments=moments)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class State:
    """Float32 parameters, optimizer state, the number of updates made, and the head.

    With adapters `params` are the adapters, and `frozen` is the rest of the policy in the compute dtype, else {}.
    """

    params: Params
    optimizer: Any
    update: jax.Array
    frozen: Params = field(default_factory=dict)
    head: HeadState = field(default_factory=HeadState)

    def trees(self) -> dict[str, Any]:
        """Split into named checkpoint items; frozen base weights are not saved."""
        head = {"head": self.head} if self.head.params else {}
        return {"params": self.params, "optimizer": (self.optimizer, self.update), **head}

    @classmethod
    def of(cls, trees: dict[str, Any], frozen: Params) -> "State":
        """Build the state from checkpoint items and the frozen weights."""
        optimizer, update = trees["optimizer"]
        head = trees.get("head", HeadState())
        return cls(params=trees["params"], optimizer=optimizer, update=update, frozen=frozen, head=head)
