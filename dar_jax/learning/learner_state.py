"""The state that training changes, and its shapes."""

from dataclasses import dataclass, field
from typing import Any

import jax

from dar_jax.learning.heads import HeadState
from dar_jax.models import Params


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class State:
    """What training changes: float32 parameters, the optimizer's state, optimizer updates made. With adapters these
    are the parameters, and `frozen` is the rest of the policy in the compute dtype; else it is empty. `head` is the
    algorithm's own, parameters and moments; most have none.
    """

    params: Params
    optimizer: Any
    update: jax.Array
    frozen: Params = field(default_factory=dict)
    head: HeadState = field(default_factory=HeadState)

    def trees(self) -> dict[str, Any]:
        """Divide into the parts a checkpoint keeps by name; what is frozen lies where the run started from."""
        own = {"head": self.head} if self.head.params else {}
        return {"params": self.params, "optimizer": (self.optimizer, self.update), **own}

    @classmethod
    def of(cls, trees: dict[str, Any], frozen: Params) -> "State":
        """Unite what `trees` divided."""
        optimizer, update = trees["optimizer"]
        head = trees.get("head", HeadState())
        return cls(params=trees["params"], optimizer=optimizer, update=update, frozen=frozen, head=head)


@dataclass(frozen=True, kw_only=True)
class Abstract:
    """What a run holds, as shapes with their places: the state, the parameters in the compute dtype as they are scored
    (the reference lies alike), and as they are sampled from.
    """

    state: State
    computing: Params
    decode: Params
