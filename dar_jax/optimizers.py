"""The optimizers: Adafactor as the paper's runs had it, and AdamW.

Adafactor's factors and norms belong to one weight matrix. Our layers are stacked and our heads are axes of their
own, so each leaf is first seen as the matrices it holds: mapped over `layers`, heads merged with their head size.
The update then equals that of the unstacked Hugging Face weights.
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat
from pydantic.dataclasses import dataclass

from dar_jax.settings import STRICT

Axes = tuple[str | None, ...]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Adafactor:
    """Adafactor as HF's Trainer runs it: no parameter scaling, no relative step, no momentum.

    Learning rate constant after `warmup_updates` linear ones. `max_grad_norm` is off: DAR's mean weight is near 9, so a
    norm that suits plain SFT would throttle it (watch `dar/weight_mean` before setting one).
    """

    name: Literal["adafactor"] = "adafactor"
    learning_rate: PositiveFloat = 1e-6
    warmup_updates: NonNegativeInt = 15
    decay_exponent: float = Field(default=0.8, gt=0, le=1)
    clipping_threshold: PositiveFloat | None = 1.0
    weight_decay: NonNegativeFloat = 0.0
    max_grad_norm: PositiveFloat | None = None

    def build(self, axes: Any) -> optax.GradientTransformation:
        """Make the transformation for params whose logical axes are `axes`."""
        parts = [optax.scale_by_factored_rms(decay_rate=self.decay_exponent, min_dim_size_to_factor=2, epsilon=1e-30)]
        if self.clipping_threshold:
            parts.append(optax.clip_by_block_rms(self.clipping_threshold))
        return _finish(self, per_weight(optax.chain(*parts), axes), axes)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class AdamW:
    """AdamW, constant learning rate after `warmup_updates` linear ones; norms and biases do not decay."""

    name: Literal["adamw"] = "adamw"
    learning_rate: PositiveFloat = 1e-6
    warmup_updates: NonNegativeInt = 15
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.999, ge=0, lt=1)
    epsilon: PositiveFloat = 1e-8
    weight_decay: NonNegativeFloat = 0.0
    max_grad_norm: PositiveFloat | None = None

    def build(self, axes: Any) -> optax.GradientTransformation:
        """Make the transformation for params whose logical axes are `axes`."""
        scale = optax.scale_by_adam(b1=self.beta1, b2=self.beta2, eps=self.epsilon)
        return _finish(self, scale, axes)


OPTIMIZERS = {"adafactor": Adafactor, "adamw": AdamW}
Optimizer = Adafactor | AdamW


def learning_rate(settings: Optimizer) -> optax.Schedule:
    """Return the schedule: linear over the warm-up updates (none of them at zero), then constant."""
    warmup = max(settings.warmup_updates, 1)
    return lambda count: settings.learning_rate * jnp.minimum(1.0, (count + 1) / warmup)


def _finish(settings: Optimizer, scale: optax.GradientTransformation, axes: Any) -> optax.GradientTransformation:
    parts = [scale]
    if settings.max_grad_norm:
        parts.insert(0, optax.clip_by_global_norm(settings.max_grad_norm))
    if settings.weight_decay:
        decays = jax.tree.map(_is_matrix, axes, is_leaf=_is_axes)
        parts.append(optax.add_decayed_weights(settings.weight_decay, decays))
    return optax.chain(*parts, optax.scale_by_learning_rate(learning_rate(settings)))


def per_weight(inner: optax.GradientTransformation, axes: Any) -> optax.GradientTransformation:
    """Run `inner` on every weight as its own matrix: mapped over the layer axis, heads merged."""
    names = jax.tree.leaves(axes, is_leaf=_is_axes)

    def divide(tree: Any) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
        single: dict[str, jax.Array] = {}
        stacked: dict[str, jax.Array] = {}
        for index, (leaf, axis) in enumerate(zip(jax.tree.leaves(tree), names, strict=True)):
            target = stacked if axis[0] == "layers" else single
            target[f"{index:03d}"] = leaf.reshape(_matrix_shape(axis, leaf.shape))
        return single, stacked

    def unite(single: dict[str, jax.Array], stacked: dict[str, jax.Array], like: Any) -> Any:
        leaves, structure = jax.tree.flatten(like)
        merged = single | stacked
        parts = [merged[f"{i:03d}"].reshape(leaf.shape) for i, leaf in enumerate(leaves)]
        return jax.tree.unflatten(structure, parts)

    def init(params: Any) -> Any:
        single, stacked = divide(params)
        return inner.init(single), jax.vmap(inner.init)(stacked)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        single, stacked = divide(updates)
        single_params, stacked_params = divide(params)
        single, single_state = inner.update(single, state[0], single_params)
        stacked, stacked_state = jax.vmap(inner.update)(stacked, state[1], stacked_params)
        return unite(single, stacked, updates), (single_state, stacked_state)

    return optax.GradientTransformation(init, update)  # type: ignore[arg-type]


def _is_axes(node: Any) -> bool:
    return isinstance(node, tuple)


def _joins(names: Axes, position: int) -> bool:
    """Whether this axis is the head size behind its heads: Hugging Face stores the two as one."""
    before = names[position - 1] if position else None
    return names[position] == "head_size" and before in ("heads", "kv_heads")


def _is_matrix(names: Axes) -> bool:
    return sum(n != "layers" and not _joins(names, i) for i, n in enumerate(names)) > 1


def _matrix_shape(names: Axes, shape: tuple[int, ...]) -> tuple[int, ...]:
    sizes: list[int] = []
    for position, size in enumerate(shape):
        if _joins(names, position):
            sizes[-1] *= size
        else:
            sizes.append(size)
    return tuple(sizes)
