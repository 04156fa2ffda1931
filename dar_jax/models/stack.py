"""Training through the stacked layers: gradients are added in place, one layer at a time.

Differentiating a scan makes the gradients of all layers anew and then adds them to the sum over micro-batches: twice
the parameters' bytes. Here the way back walks the layers itself and adds each one's gradient to the sum where it lies.
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


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _Kept:
    """What a layer keeps of its pullback, whose leaves are what it made and, themselves, what it was given. The latter
    is there on the way back: `given` says which of it a leaf is, None for one that was made.
    """

    made: list[jax.Array]
    given: tuple[int | None, ...] = field(metadata={"static": True})
    form: Any = field(metadata={"static": True})

    @classmethod
    def of(cls, pull: Tree, given: Tree) -> "_Kept":
        leaves, form = jax.tree.flatten(pull)
        places = {id(leaf): place for place, leaf in enumerate(jax.tree.leaves(given))}
        found = tuple(places.get(id(leaf)) for leaf in leaves)
        return cls([leaf for leaf, place in zip(leaves, found, strict=True) if place is None], found, form)

    def pull(self, given: Tree) -> Tree:
        made, there = iter(self.made), jax.tree.leaves(given)
        return jax.tree.unflatten(self.form, [next(made) if place is None else there[place] for place in self.given])


@ft.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def through(
    read: Read, cast: Cast, learnt: Tree, fixed: Tree, gradients: Tree, hidden: jax.Array, context: Tree
) -> jax.Array:
    """Scan `hidden = read(cast(learnt), fixed, hidden, context)` over stacked `learnt` and `fixed`.

    Differentiate by `gradients`, which has the form of `learnt`, and by `hidden` alone: the cotangent of `gradients` is
    their sum with those of `learnt`. What each layer made is kept for the way back, less what `read` would rather
    compute again (`jax.checkpoint`); what it was given is not, nor what `cast` made of it. `read` and `cast` must not
    close over traced values: those belong in `context`.
    """
    return _forth(read, cast, learnt, fixed, gradients, hidden, context)[0]


def _forth(
    read: Read, cast: Cast, learnt: Tree, fixed: Tree, gradients: Tree, hidden: jax.Array, context: Tree
) -> tuple[jax.Array, Tree]:
    def one(entering: jax.Array, layer: tuple[Tree, Tree]) -> tuple[jax.Array, _Kept]:
        lent, rest = cast(layer[0]), layer[1]
        leaving, pull = jax.vjp(lambda lent, entering: read(lent, rest, entering, context), lent, entering)
        return leaving, _Kept.of(pull, (lent, rest, context))

    hidden, kept = jax.lax.scan(one, hidden, (learnt, fixed))
    return hidden, (learnt, fixed, gradients, kept, context)


def _back(read: Read, cast: Cast, kept: Tree, cotangent: jax.Array) -> tuple[None, None, Tree, jax.Array, None]:
    learnt, fixed, gradients, kept, context = kept
    last = jax.tree.leaves(learnt)[0].shape[0] - 1

    def one(done: jax.Array, carry: tuple[jax.Array, Tree]) -> tuple[jax.Array, Tree]:
        cotangent, gradients = carry
        layer, rest, own = at((learnt, fixed, kept), last - done)
        lent, uncast = jax.vjp(cast, layer)
        gradient, cotangent = own.pull((lent, rest, context))(cotangent)
        return cotangent, put(gradients, plus(at(gradients, last - done), uncast(gradient)[0]), last - done)

    cotangent, gradients = jax.lax.fori_loop(0, last + 1, one, (cotangent, gradients))
    return None, None, gradients, cotangent, None


through.defvjp(_forth, _back)
