"""Arrays that stay in a chip's memory while a program runs without being its arguments, as `training.py` holds them:

decode_params, sample, recall    the float32 parameters, the optimizer state and the reference model
regress                          the reference model
resume                           the loaded parameters and the reference cast from them, then state and reference

With `reference.placement: host` the reference model is on the chips during recall only.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax

from dar_jax import models
from dar_jax.config.run_config import RunConfig
from dar_jax.learner import Learner
from dar_jax.planning import lowering


def holdings(config: RunConfig, learner: Learner) -> dict[str, int]:
    """Return the bytes per chip of the arrays that outlive a program, by name."""
    state, computing = learner.abstract_state(), lowering.compute_params(learner)
    computing, frozen = models.split(computing, learner.config.lora)
    needed = "reference" in config.algorithm.needs or config.evaluation
    name = "reference" if config.reference.placement == "device" else "fetched_reference"
    found = {
        "params": nbytes(state.params),
        "optimizer": nbytes(state.optimizer),
        "frozen": nbytes(frozen),
        name: nbytes(computing) if needed else 0,
    }
    if config.online:
        found |= {"decode_params": nbytes(lowering.decode_params(learner)), "compute_params": nbytes(computing)}
    return {name: size for name, size in found.items() if size}


def resident(stage: str, held: Mapping[str, int]) -> dict[str, int]:
    """Return the holdings that are neither arguments nor outputs of a stage's programs."""
    return {name: held[name] for name in _RESIDENT[stage] if name in held}


def minimum_bytes(stage: str, held: Mapping[str, int]) -> int:
    """Return the bytes per chip that a stage needs without its programs' temporaries."""
    return sum(held.get(name, 0) for name in (*_RESIDENT[stage], *_ARGUMENTS[stage]))


def resume_bytes(held: Mapping[str, int]) -> int:
    """Return the peak bytes per chip of a start or a resume, before the first step.

    That is the loaded parameters and the reference cast from them, or later the state and the reference.
    """
    kept = held["params"] + held.get("frozen", 0) + held.get("reference", 0)
    return kept + max(held["optimizer"], held.get("fetched_reference", 0))


_RESIDENT: Mapping[str, tuple[str, ...]] = {
    "compute_params": ("optimizer", "frozen", "reference"),
    "decode_params": ("optimizer", "frozen", "reference"),
    "sample": ("params", "optimizer", "frozen", "reference"),
    "recall": ("params", "optimizer", "reference", "fetched_reference"),
    "regress": ("reference",),
}
_ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "compute_params": ("params", "compute_params"),
    "decode_params": ("params", "decode_params"),
    "sample": ("decode_params",),
    "recall": ("compute_params", "frozen"),
    "regress": ("params", "optimizer", "frozen"),
}


def nbytes(tree: Any) -> int:
    """Return the bytes on one device of a tree of shapes with shardings."""
    return sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * _item(leaf) for leaf in jax.tree.leaves(tree))


def _item(leaf: Any) -> int:
    return int(leaf.dtype.itemsize)
