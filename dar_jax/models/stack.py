"""Scans over stacked layers, and a backward pass that accumulates their gradients in place, one layer at a time.

Differentiating `jax.lax.scan` makes the gradients of all layers and then adds them to the sum over micro-batches: twice
the bytes of the parameters. The custom backward pass here loops over the layers and adds each gradient to the sum.
"""

import functools as ft
import operator as op
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax

Tree = Any
Read = Callable[[Tree, Tree, jax.Array, Tree], jax.Array]
Cast = Callable[[Tree], Tree]


def layer_at(stacked: Tree, index: jax.Array | int) -> Tree:
    """Return one layer of stacked leaves."""
    return jax.tree.map(lambda leaf: jax.lax.dynamic_index_in_dim(leaf, index, keepdims=False), stacked)


def set_layer(stacked: Tree, layer: Tree, index: jax.Array | int) -> Tree:
    """Return stacked leaves with one layer replaced; in place if they are a loop's carry."""
    return jax.tree.map(lambda leaf, one: jax.lax.dynamic_update_index_in_dim(leaf, one, index, 0), stacked, layer)


def add_to(total: Tree, more: Tree) -> Tree:
    """Return the sum, in the dtype of `total`."""
    return jax.tree.map(lambda one, other: one + other.astype(one.dtype), total, more)


def unstacked(stacked: Tree) -> Tree:
    """Return each stacked leaf as a list with one array a layer."""
    return jax.tree.map(list, stacked)


def scan_layers(read: Callable[[jax.Array, Tree], tuple[jax.Array, Tree]], hidden: jax.Array, layers: Tree) -> Any:
    """Scan over stacked layers as `jax.lax.scan` does, or loop over `unstacked` ones and return unstacked outputs."""
    lists = [leaf for leaf in jax.tree.leaves(layers, is_leaf=_is_list) if _is_list(leaf)]
    if not lists:
        return jax.lax.scan(read, hidden, layers)
    given = []
    for index in range(len(lists[0])):
        layer = jax.tree.map(op.itemgetter(index), layers, is_leaf=_is_list)
        hidden, one = read(hidden, layer)
        given.append(one)
    return hidden, jax.tree.map(lambda *each: list(each), *given)


def _is_list(node: Tree) -> bool:
    return isinstance(node, list)


@ft.partial(jax.custom_vjp, nondiff_argnums=(2,))
def cast_with_grad_accumulation(weight: jax.Array, gradient: jax.Array, dtype: Any) -> jax.Array:
    """Return a weight in a dtype; the gradient with respect to `gradient` is `gradient` plus that of the weight.

    Differentiate with respect to `gradient` alone: the weight itself gets no cotangent.
    """
    del gradient
    return weight.astype(dtype)


def _cast_forward(weight: jax.Array, gradient: jax.Array, dtype: Any) -> tuple[jax.Array, jax.Array]:
    return weight.astype(dtype), gradient


def _cast_backward(dtype: Any, gradient: jax.Array, cotangent: jax.Array) -> tuple[None, jax.Array]:
    return None, add_to(gradient, cotangent)


cast_with_grad_accumulation.defvjp(_cast_forward, _cast_backward)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _Residuals:
    """The residuals of a layer's pullback that have to be saved: those which are not inputs of the layer.

    `jax.vjp` returns a pytree whose leaves are residuals; leaves that are inputs are the same tracer objects (true of
    jax 0.10 to 0.12; tests/models/test_stack.py checks that none is saved twice). `given` maps each leaf to its input,
    or None.
    """

    made: list[jax.Array]
    given: tuple[int | None, ...] = field(metadata={"static": True})
    form: Any = field(metadata={"static": True})

    @classmethod
    def of(cls, pull: Tree, given: Tree) -> "_Residuals":
        leaves, form = jax.tree.flatten(pull)
        places = {id(leaf): place for place, leaf in enumerate(jax.tree.leaves(given))}
        found = tuple(places.get(id(leaf)) for leaf in leaves)
        return cls([leaf for leaf, place in zip(leaves, found, strict=True) if place is None], found, form)

    def pull(self, given: Tree) -> Tree:
        made, there = iter(self.made), jax.tree.leaves(given)
        return jax.tree.unflatten(self.form, [next(made) if place is None else there[place] for place in self.given])


@ft.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def scan_layers_accumulating_grads(
    read: Read, cast: Cast, learnt: Tree, fixed: Tree, gradients: Tree, hidden: jax.Array, context: Tree
) -> jax.Array:
    """Scan `hidden = read(cast(learnt), fixed, hidden, context)` over stacked `learnt` and `fixed`.

    Differentiate with respect to `gradients`, a tree like `learnt`, and `hidden` alone: the cotangent of `gradients` is
    its sum with the gradient of `learnt`. Each layer's residuals are saved, less those that `read` recomputes
    (`jax.checkpoint`), its inputs and the outputs of `cast`. `read` and `cast` must not close over traced values: pass
    those in `context`.
    """
    return _scan_forward(read, cast, learnt, fixed, gradients, hidden, context)[0]


def _scan_forward(
    read: Read, cast: Cast, learnt: Tree, fixed: Tree, gradients: Tree, hidden: jax.Array, context: Tree
) -> tuple[jax.Array, Tree]:
    def one(entering: jax.Array, layer: tuple[Tree, Tree]) -> tuple[jax.Array, _Residuals]:
        weights, rest = cast(layer[0]), layer[1]
        leaving, pull = jax.vjp(lambda weights, entering: read(weights, rest, entering, context), weights, entering)
        return leaving, _Residuals.of(pull, (weights, rest, context))

    hidden, kept = jax.lax.scan(one, hidden, (learnt, fixed))
    return hidden, (learnt, fixed, gradients, kept, context)


def _scan_backward(
    read: Read, cast: Cast, kept: Tree, cotangent: jax.Array
) -> tuple[None, None, Tree, jax.Array, None]:
    learnt, fixed, gradients, kept, context = kept
    last = jax.tree.leaves(learnt)[0].shape[0] - 1

    def one(done: jax.Array, carry: tuple[jax.Array, Tree]) -> tuple[jax.Array, Tree]:
        cotangent, gradients = carry
        layer, rest, own = layer_at((learnt, fixed, kept), last - done)
        weights, uncast = jax.vjp(cast, layer)
        gradient, cotangent = own.pull((weights, rest, context))(cotangent)
        return cotangent, set_layer(
            gradients, add_to(layer_at(gradients, last - done), uncast(gradient)[0]), last - done
        )

    cotangent, gradients = jax.lax.fori_loop(0, last + 1, one, (cotangent, gradients))
    return None, None, gradients, cotangent, None


scan_layers_accumulating_grads.defvjp(_scan_forward, _scan_backward)
