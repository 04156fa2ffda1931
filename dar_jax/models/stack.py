"""Training through the stacked layers: gradients are added in place, one layer at a time.

Differentiating a scan makes the gradients of all layers anew and then adds them to the sum over micro-batches: twice
the parameters' bytes. Here the way back walks the layers itself and adds each one's gradient to the sum where it lies.
"""

import functools as ft
import operator as op
from collections.abc import Callable
from typing import Any

import jax

Tree = Any
Read = Callable[[Tree, Tree, jax.Array, Tree], jax.Array]


def at(stacked: Tree, index: jax.Array | int) -> Tree:
    """Take one layer out of stacked leaves."""
    return jax.tree.map(lambda leaf: jax.lax.dynamic_index_in_dim(leaf, index, keepdims=False), stacked)


def put(stacked: Tree, layer: Tree, index: jax.Array | int) -> Tree:
    """Set one layer of stacked leaves; in place where they are a loop's carry."""
    return jax.tree.map(lambda leaf, one: jax.lax.dynamic_update_index_in_dim(leaf, one, index, 0), stacked, layer)


def plus(total: Tree, more: Tree) -> Tree:
    """Add in the total's dtype."""
    return jax.tree.map(lambda one, other: one + other.astype(one.dtype), total, more)


def listed(stacked: Tree) -> Tree:
    """Give each stacked leaf as a list, one array a layer."""
    return jax.tree.map(list, stacked)


def scan(read: Callable[[jax.Array, Tree], tuple[jax.Array, Tree]], hidden: jax.Array, layers: Tree) -> Any:
    """Do as `jax.lax.scan` over stacked layers; over `listed` ones a layer at a time, and what they give is listed."""
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
def lend(weight: jax.Array, gradient: jax.Array, dtype: Any) -> jax.Array:
    """Give a weight in a dtype. On the way back its gradient is added to `gradient`: differentiate by that alone."""
    del gradient
    return weight.astype(dtype)


def _lend(weight: jax.Array, gradient: jax.Array, dtype: Any) -> tuple[jax.Array, jax.Array]:
    return weight.astype(dtype), gradient


def _returned(dtype: Any, gradient: jax.Array, cotangent: jax.Array) -> tuple[None, jax.Array]:
    return None, plus(gradient, cotangent)


lend.defvjp(_lend, _returned)


@ft.partial(jax.custom_vjp, nondiff_argnums=(0,))
def through(read: Read, learnt: Tree, fixed: Tree, gradients: Tree, hidden: jax.Array, context: Tree) -> jax.Array:
    """Scan `hidden = read(learnt, fixed, hidden, context)` over stacked `learnt` and `fixed`.

    Differentiate by `gradients`, which has the form of `learnt`, and by `hidden` alone: the cotangent of `gradients` is
    their sum with those of `learnt`. What enters each layer is kept, the rest computed again on the way back. `read`
    must not close over traced values: those belong in `context`.
    """
    return _forth(read, learnt, fixed, gradients, hidden, context)[0]


def _forth(
    read: Read, learnt: Tree, fixed: Tree, gradients: Tree, hidden: jax.Array, context: Tree
) -> tuple[jax.Array, Tree]:
    def one(entering: jax.Array, layer: tuple[Tree, Tree]) -> tuple[jax.Array, jax.Array]:
        return read(layer[0], layer[1], entering, context), entering

    hidden, entered = jax.lax.scan(one, hidden, (learnt, fixed))
    return hidden, (learnt, fixed, gradients, entered, context)


def _back(read: Read, kept: Tree, cotangent: jax.Array) -> tuple[None, None, Tree, jax.Array, None]:
    learnt, fixed, gradients, entered, context = kept
    last = entered.shape[0] - 1

    def one(done: jax.Array, carry: tuple[jax.Array, Tree]) -> tuple[jax.Array, Tree]:
        cotangent, gradients = carry
        layer, rest, entering = at((learnt, fixed, entered), last - done)
        _, pull = jax.vjp(lambda layer, entering: read(layer, rest, entering, context), layer, entering)
        gradient, cotangent = pull(cotangent)
        return cotangent, put(gradients, plus(at(gradients, last - done), gradient), last - done)

    cotangent, gradients = jax.lax.fori_loop(0, last + 1, one, (cotangent, gradients))
    return None, None, gradients, cotangent, None


through.defvjp(_forth, _back)
