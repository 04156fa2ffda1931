"""The arrays that pass between the stages, and the legend of their shapes.

A name ends in its axes, one capital each, after the last underscore:

    P  prompts                      L  layers
    G  completions a prompt         D  width
    B  rows, P x G, prompt-major    N  query heads
    E  examples                     K  key/value heads
    R  rows an example              H  head size
    S  cached positions             F  MLP width
    T  token positions              V  vocabulary

A row is `[left padding | prompt | completion | right padding]` over S positions; the completion lies in the
last T of them. Masks are `mask_*` and True counts. A record whose name ends in axes has them in place of its
fields' B. `check` makes the suffixes executable.
"""

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

Record = TypeVar("Record")
_AXES = re.compile(r"_([PGBERSTLDNKHFV]+)$")


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What the model reads. `token_BT` are read now, `mask_BS` says which positions seen hold a real token; S is T
    but with a cache. Whatever else a model reads joins here: no algorithm looks inside.
    """

    token_BT: jax.Array
    mask_BS: jax.Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Rollouts:
    """The completions of a batch of prompts. Log-probs are nats per token, float32.

    `mask_completion_BT` marks the completion's tokens, its EOS included; `ended_B` that EOS came.
    `sampler_logprob_BT` is the decoder's own (none for recorded data) and only ever a metric;
    `sampling_logprob_BT` (log pi_t) and `ref_logprob_BT` (log pi_ref) come from one scoring function
    (`learner.recall`). `sampling_value_BT` are the values of the algorithm's head at pi_t, if it has one.
    """

    inputs_B: Inputs
    mask_completion_BT: jax.Array
    ended_B: jax.Array
    sampler_logprob_BT: jax.Array | None = None
    sampling_logprob_BT: jax.Array | None = None
    ref_logprob_BT: jax.Array | None = None
    sampling_value_BT: jax.Array | None = None


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Rewards:
    """What the judge said, in the rubric's units; `valid_PG` is False where there is no reward
    (`reward_PG` is then NaN, so that a careless use is seen).
    """

    reward_PG: jax.Array
    valid_PG: jax.Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Batch:
    """What one step learns from. `weight_E` is the detached regression weight, or what else the algorithm weighs an
    example by; examples with `mask_E` False count in no numerator and no denominator. `advantage_ERT` and `return_ERT`
    (the reward to come) are those of single tokens, where the algorithm has such.
    """

    inputs_ER: Inputs
    mask_completion_ERT: jax.Array
    weight_E: jax.Array
    mask_E: jax.Array
    sampling_logprob_ERT: jax.Array | None = None
    ref_logprob_ERT: jax.Array | None = None
    advantage_ERT: jax.Array | None = None
    return_ERT: jax.Array | None = None

    def take(self, index_E: jax.Array) -> "Batch":
        """Pick examples, in the order given."""
        return jax.tree.map(lambda leaf: leaf[index_E], self)


def check(record: Record) -> Record:
    """Return the record if its arrays fit their names; one letter has one size throughout.

    Raises ValueError naming the field, its shape and what was expected.
    """
    sizes: dict[str, tuple[int, str]] = {}
    for name, axes, array in _named_arrays(record):
        if len(axes) != array.ndim:
            raise ValueError(f"{name}: shape {array.shape} has not the axes {''.join(letter[0] for letter in axes)}")
        for letter, size in zip(axes, array.shape, strict=True):
            known, where = sizes.setdefault(letter, (size, name))
            if size != known:
                raise ValueError(f"{name}: axis {letter[0]} has size {size}, but {known} in {where}")
    return record


def _named_arrays(record: Any) -> Iterator[tuple[str, list[str], jax.Array]]:
    """Go through the arrays with axes in their names; a record within has its own T and S."""
    for field in dataclasses.fields(record):
        suffix, value = _AXES.search(field.name), getattr(record, field.name)
        if suffix is None or value is None:
            continue
        if not dataclasses.is_dataclass(value):
            yield field.name, list(suffix[1]), value
            continue
        for name, axes, array in _named_arrays(value):
            own = {letter: [f"{letter} of {field.name}"] for letter in axes} | {"B": list(suffix[1])}
            yield f"{field.name}.{name}", [each for letter in axes for each in own[letter]], array


def masked_mean(value: jax.Array, mask: jax.Array) -> jax.Array:
    """Return the mean over the True entries, 0.0 where there is none. Metrics take `measured_mean`."""
    total = jnp.sum(jnp.where(mask, value, 0.0))
    return total / jnp.maximum(jnp.sum(mask), 1)


def measured_mean(value: jax.Array, mask: jax.Array) -> jax.Array:
    """Return the mean over the True entries, NaN where there is none: nothing was measured."""
    return measured(masked_mean(value, mask), mask)


def measured(value: jax.Array, mask: jax.Array) -> jax.Array:
    """Return a figure of the True entries, NaN where there is none."""
    return jnp.where(mask.any(), value, jnp.nan)
