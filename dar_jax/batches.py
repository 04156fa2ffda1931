"""The arrays that are passed between stages, and the legend of their shapes.

A name ends in its axes, one capital each, after the last underscore:

    P  prompts                      L  layers
    G  completions a prompt         D  width
    B  rows, P x G, prompt-major    N  query heads
    E  examples                     K  key/value heads
    R  rows an example              H  head size
    S  cached positions             F  MLP width
    T  token positions              V  vocabulary

A row is `[left padding | prompt | completion | right padding]` over S positions; the completion lies in the
last T of them. Masks are `mask_*` and True counts. In a record whose name ends in
axes, these replace the B of its fields. `check` makes the suffixes executable.
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
    """Inputs of the model: `token_BT`, and `mask_BS`, True for positions with a real token. S is T without a cache.

    Algorithms never read the fields, so that a model may have other inputs.
    """

    token_BT: jax.Array
    mask_BS: jax.Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Rollouts:
    """The completions of a batch of prompts. Log-probs are nats per token, float32.

    `mask_completion_BT` is True for the completion's tokens, EOS included; `ended_B` is True if EOS was sampled.
    `sampler_logprob_BT` is the decoder's (None for recorded data), and only used as a metric;
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
    """The judge's rewards, in the rubric's units; `valid_PG` is False where there is none, and `reward_PG` NaN."""

    reward_PG: jax.Array
    valid_PG: jax.Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Batch:
    """The examples of a step. `weight_E` is the detached regression weight, or another weight of the algorithm's.

    Examples with `mask_E` False are counted in no numerator or denominator. `advantage_ERT` and `return_ERT` are per
    token, for algorithms that have them.
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
        """Return these examples, in this order."""
        return jax.tree.map(lambda leaf: leaf[index_E], self)


def check(record: Record) -> Record:
    """Return the record if its arrays match the axes in their names, each letter with one size.

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
    """Yield the arrays with axes in their names; a nested record has its own T and S."""
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
    """Return the mean over the True entries, 0.0 if there is none. Metrics use `measured_mean`."""
    total = jnp.sum(jnp.where(mask, value, 0.0))
    return total / jnp.maximum(jnp.sum(mask), 1)


def measured_mean(value: jax.Array, mask: jax.Array) -> jax.Array:
    """Return the mean over the True entries, NaN if there is none: nothing was measured."""
    return measured(masked_mean(value, mask), mask)


def measured(value: jax.Array, mask: jax.Array) -> jax.Array:
    """Return `value`, or NaN if no entry of the mask is True."""
    return jnp.where(mask.any(), value, jnp.nan)
