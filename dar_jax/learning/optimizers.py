"""The optimizers: Adafactor as in the paper's runs, and AdamW.

Adafactor's factors and norms belong to one weight matrix. Here layers are stacked and heads have an axis of their own,
so each leaf is treated as the matrices it holds: one layer at a time, heads merged with their head size, and what
Hugging Face stores as one matrix (Phi-3's query, key and value; its gate and up) concatenated. The update then equals
that of the unstacked Hugging Face weights.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.traverse_util import flatten_dict, unflatten_dict
from pydantic import Field
from pydantic.dataclasses import dataclass

from dar_jax.models import layer_at, set_layer
from dar_jax.settings.fields import STRICT, CountOrZero, Positive, PositiveOrZero, Share

Axes = tuple[str | None, ...]
Fused = Sequence[Sequence[str]]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Adafactor:
    """Adafactor as HF's Trainer runs it: no parameter scaling, no relative step, no momentum.

    The learning rate is constant after a linear warm-up of `warmup_updates`. `max_grad_norm` is off: DAR's mean weight
    is near 9, so a norm that suits SFT would throttle it (watch `dar/weight_mean` before setting one).
    """

    name: Literal["adafactor"] = "adafactor"
    learning_rate: Positive = 1e-6
    warmup_updates: CountOrZero = 15
    decay_exponent: Share = Field(default=0.8, gt=0)
    clipping_threshold: Positive | None = 1.0
    weight_decay: PositiveOrZero = 0.0
    max_grad_norm: Positive | None = None

    def build(self, axes: Any, fused: Fused = ()) -> "Updater":
        """Build the optimizer of parameters with logical axes `axes`; each group of paths in `fused` is one matrix."""
        return Updater(lambda axes: self._transformation(axes, fused), axes, self.max_grad_norm)

    def _transformation(self, axes: Any, fused: Fused) -> optax.GradientTransformation:
        parts = [optax.scale_by_factored_rms(decay_rate=self.decay_exponent, min_dim_size_to_factor=2, epsilon=1e-30)]
        if self.clipping_threshold:
            parts.append(optax.clip_by_block_rms(self.clipping_threshold))
        return _finish(self, as_matrices(optax.chain(*parts), axes, fused), axes)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class AdamW:
    """AdamW, constant learning rate after `warmup_updates` linear ones; norms and biases do not decay."""

    name: Literal["adamw"] = "adamw"
    learning_rate: Positive = 1e-6
    warmup_updates: CountOrZero = 15
    beta1: Share = Field(default=0.9, lt=1)
    beta2: Share = Field(default=0.999, lt=1)
    epsilon: Positive = 1e-8
    weight_decay: PositiveOrZero = 0.0
    max_grad_norm: Positive | None = None

    def build(self, axes: Any, fused: Fused = ()) -> "Updater":
        """Build the optimizer of parameters with logical axes `axes`; it is elementwise, so `fused` is not used."""
        return Updater(self._transformation, axes, self.max_grad_norm)

    def _transformation(self, axes: Any) -> optax.GradientTransformation:
        scale = optax.scale_by_adam(b1=self.beta1, b2=self.beta2, eps=self.epsilon)
        return _finish(self, scale, axes)


OPTIMIZERS = {"adafactor": Adafactor, "adamw": AdamW}
Optimizer = Adafactor | AdamW


def learning_rate(settings: Optimizer) -> optax.Schedule:
    """Return the schedule: linear over the warm-up updates (starting above zero), then constant."""
    warmup = max(settings.warmup_updates, 1)
    return lambda count: settings.learning_rate * jnp.minimum(1.0, (count + 1) / warmup)


def _finish(settings: Optimizer, scale: optax.GradientTransformation, axes: Any) -> optax.GradientTransformation:
    parts = [scale]
    if settings.weight_decay:
        decays = jax.tree.map(_is_matrix, axes, is_leaf=_is_axes)
        parts.append(optax.add_decayed_weights(settings.weight_decay, decays))
    return optax.chain(*parts, optax.scale_by_learning_rate(learning_rate(settings)))


class Updater:
    """An optimizer of stacked parameters, which updates one layer at a time, in place.

    `build` returns the optax transformation of a tree from its logical axes, without the layer axis.
    """

    def __init__(
        self, build: Callable[[Any], optax.GradientTransformation], axes: Any, max_grad_norm: float | None
    ) -> None:
        rest, layers = _divide(axes)
        self._rest = build(rest)
        self._layer = build(jax.tree.map(lambda names: names[1:], layers, is_leaf=_is_axes))
        self._limit = max_grad_norm

    def init(self, params: Any) -> Any:
        """Return the state before the first update."""
        rest, layers = _divide(params)
        return self._rest.init(rest), jax.vmap(self._layer.init)(layers)

    def apply(
        self, params: Any, gradients: Any, state: Any, scale: jax.Array, wanted: jax.Array | bool = True
    ) -> tuple[Any, Any, jax.Array, jax.Array]:
        """Return params and state after an update by `scale` times the gradients, which may be of a smaller dtype.

        Also return the norm of the scaled gradients over all weights, before clipping, and whether the update was
        applied. Unless it is `wanted` and the norm and all new params are finite, params and state are unchanged, to
        the bit.
        """
        norm = scale * optax.tree.norm(jax.tree.map(lambda leaf: leaf.astype(jnp.float32), gradients))
        if self._limit:
            scale *= self._limit / jnp.maximum(norm, self._limit)
        applied = jnp.isfinite(norm) & wanted & self._stays_finite(params, gradients, state, scale)
        (rest, layers), (rest_gradients, layer_gradients) = _divide(params), _divide(gradients)
        rest, rest_state = _moved(self._rest, rest, rest_gradients, state[0], scale, applied)

        def update(index: int, carry: tuple[Any, Any]) -> tuple[Any, Any]:
            layer, before = layer_at(carry, index)
            return set_layer(
                carry, _moved(self._layer, layer, layer_at(layer_gradients, index), before, scale, applied), index
            )

        layers, layer_state = jax.lax.fori_loop(0, _count(layers), update, (layers, state[1]))
        return {**rest, **layers}, (rest_state, layer_state), norm, applied

    def _stays_finite(self, params: Any, gradients: Any, state: Any, scale: jax.Array) -> jax.Array:
        """Return whether all params would be finite after the update.

        The update is computed for this check and again when applied: holding it would need memory for a second state.
        """
        # Without the barrier XLA merges this update with the applied one, and holds it beside the old state.
        gradients = jax.lax.optimization_barrier(gradients)
        (rest, layers), (rest_gradients, layer_gradients) = _divide(params), _divide(gradients)

        def check(index: int, finite: jax.Array) -> jax.Array:
            layer, before = layer_at((layers, state[1]), index)
            return finite & all_finite(_moved(self._layer, layer, layer_at(layer_gradients, index), before, scale)[0])

        finite = all_finite(_moved(self._rest, rest, rest_gradients, state[0], scale)[0])
        return jax.lax.fori_loop(0, _count(layers), check, finite)


def all_finite(tree: Any) -> jax.Array:
    """Return whether all numbers in a tree are finite; True for an empty tree."""
    return jnp.array([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)], bool).all()


def chosen(condition: jax.Array, new: Any, old: Any) -> Any:
    """Return the tree `new` if the condition holds, else `old`."""
    return jax.tree.map(lambda one, other: jnp.where(condition, one, other), new, old)


def _count(layers: Any) -> int:
    return len(jax.tree.leaves(layers)[0])


def _divide(tree: Any) -> tuple[Any, Any]:
    """Split a tree into leaves without and with a layer axis; both keep their paths."""
    return {name: leaf for name, leaf in tree.items() if name != "layers"}, {"layers": tree["layers"]}


def _moved(
    optimizer: optax.GradientTransformation,
    params: Any,
    gradients: Any,
    state: Any,
    scale: jax.Array,
    applied: jax.Array | None = None,
) -> tuple[Any, Any]:
    """Return params and state after the update, unchanged if `applied` is False."""
    scaled = jax.tree.map(lambda leaf: scale * leaf.astype(jnp.float32), gradients)
    updates, new_state = optimizer.update(scaled, state, params)
    new = optax.apply_updates(params, updates), new_state
    return new if applied is None else chosen(applied, new, (params, state))


def as_matrices(inner: optax.GradientTransformation, axes: Any, fused: Fused = ()) -> optax.GradientTransformation:
    """Return `inner` applied to every weight as Hugging Face stores it, transposed.

    Heads and head size become one axis. The parameters of a group in `fused` (paths with slashes) are concatenated
    along their last (output) axis, under the path of the first.
    """

    def shaped(tree: Any) -> Any:
        return jax.tree.map(lambda leaf, names: leaf.reshape(_matrix_shape(names, leaf.shape)), tree, axes)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        matrices = shaped(updates)
        changed, state = inner.update(_fuse(matrices, fused), state, _fuse(shaped(params), fused))
        apart = _split(changed, matrices, fused)
        return jax.tree.map(lambda leaf, like: leaf.reshape(like.shape), apart, updates), state

    return optax.GradientTransformation(lambda params: inner.init(_fuse(shaped(params), fused)), update)


def _fuse(tree: Any, fused: Fused) -> Any:
    flat = flatten_dict(tree, sep="/")
    for first, *rest in _present(flat, fused):
        flat[first] = jnp.concatenate([flat[first], *(flat.pop(path) for path in rest)], axis=-1)
    return unflatten_dict(flat, sep="/")


def _split(tree: Any, like: Any, fused: Fused) -> Any:
    """Undo `_fuse`; `like` is the tree before it."""
    flat, sizes = flatten_dict(tree, sep="/"), flatten_dict(like, sep="/")
    for group in _present(sizes, fused):
        ends = np.cumsum([sizes[path].shape[-1] for path in group])[:-1]
        flat |= dict(zip(group, jnp.split(flat[group[0]], ends, axis=-1), strict=True))
    return unflatten_dict(flat, sep="/")


def _present(flat: Any, fused: Fused) -> Fused:
    # Absent if adapters are trained instead, or in the other half of `_divide`.
    return [group for group in fused if all(path in flat for path in group)]


def _is_axes(node: Any) -> bool:
    return isinstance(node, tuple)


def _joins(names: Axes, position: int) -> bool:
    """Return whether this axis is the head size after its heads: Hugging Face stores the two as one."""
    before = names[position - 1] if position else None
    return names[position] == "head_size" and before in ("heads", "kv_heads")


def _is_matrix(names: Axes) -> bool:
    return sum(not _joins(names, i) for i in range(len(names))) > 1


def _matrix_shape(names: Axes, shape: tuple[int, ...]) -> tuple[int, ...]:
    sizes: list[int] = []
    for position, size in enumerate(shape):
        if _joins(names, position):
            sizes[-1] *= size
        else:
            sizes.append(size)
    return tuple(sizes)
