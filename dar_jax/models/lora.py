"""Low-rank adapters (Hu et al. 2021): x W + (alpha / rank) x A B, with W frozen, A and B trained, B zero at first.

Adapters are leaves beside the matrices they change, `lora_a` and `lora_b`. They are never added into W while
training: a bfloat16 W would round small changes away.
"""

import math
from typing import Any, Literal

import jax.numpy as jnp
from pydantic import Field
from pydantic.dataclasses import dataclass

from dar_jax.settings.fields import STRICT, Count, Positive

Target = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
TARGETS: dict[str, Target] = {
    "query": "q_proj",
    "key": "k_proj",
    "value": "v_proj",
    "output": "o_proj",
    "gate": "gate_proj",
    "up": "up_proj",
    "down": "down_proj",
}
_LEAVES = ("lora_a", "lora_b")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Lora:
    """Train adapters of `rank` only, scaled by `alpha / rank`; `targets` lists the adapted matrices of every layer by
    PEFT's names (all by default).
    """

    rank: Count = 16
    alpha: Positive = 32.0
    targets: tuple[Target, ...] = Field(default=tuple(TARGETS.values()), min_length=1)

    @property
    def scale(self) -> float:
        """The factor of the adapter's product: alpha / rank."""
        return self.alpha / self.rank

    def adapts(self, name: str) -> bool:
        """Return whether the matrix of this name (in our parameter tree) has an adapter."""
        return TARGETS[name] in self.targets


def split(params: Any, lora: Lora | None) -> tuple[Any, Any]:
    """Split a tree like the parameters into trained and frozen leaves (none are frozen without adapters)."""
    if lora is None:
        return params, {}
    return _pick(params, adapters=True), _pick(params, adapters=False)


def join(one: Any, other: Any) -> Any:
    """Return the tree that `split` divided."""
    both = {key: join(one[key], other[key]) for key in one.keys() & other.keys()}
    return dict(sorted({**one, **other, **both}.items()))


def merge(params: Any, lora: Lora | None) -> Any:
    """Return the parameters with every adapter added into its matrix, in float32, and no adapter leaves."""
    if lora is None or not isinstance(params, dict):
        return params
    if "lora_a" not in params:
        return {key: merge(leaf, lora) for key, leaf in params.items()}
    low, high = (params[name].astype(jnp.float32) for name in _LEAVES)
    wide = params["kernel"].astype(jnp.float32)
    flat = low.reshape(low.shape[0], -1, lora.rank) @ high.reshape(high.shape[0], lora.rank, -1)
    merged = wide + lora.scale * flat.reshape(wide.shape)
    return {key: merged if key == "kernel" else leaf for key, leaf in params.items() if key not in _LEAVES}


def bound(shape: tuple[int, ...]) -> float:
    """Return the limit of A's uniform initialization, as in PEFT: one over the square root of its inputs."""
    return 1 / math.sqrt(math.prod(shape[:-1]))


def _pick(params: Any, *, adapters: bool) -> Any:
    picked: dict[str, Any] = {}
    for key, leaf in params.items():
        if isinstance(leaf, dict):
            inner = _pick(leaf, adapters=adapters)
            picked |= {key: inner} if inner else {}
        elif (key in _LEAVES) == adapters:
            picked[key] = leaf
    return picked
