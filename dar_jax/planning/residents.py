"""What lies in a chip's memory beside a running program, as the spine holds it (`train.py`, top to bottom):

decode_params, sample, recall    the masters, the optimizer's state and the reference
regress                          the reference
resume                           the first parameters beside the reference made of them; then the state beside it

A reference that lies in the hosts' memory is here for recall alone.
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
    """Return the bytes per chip of all that outlives a program, by name."""
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
    """Return what of the holdings lies beside the arguments and results of a stage's programs."""
    return {name: held[name] for name in _BESIDE[stage] if name in held}


def least(stage: str, held: Mapping[str, int]) -> int:
    """Return the bytes that a stage takes before its programs have a single temporary."""
    return sum(held.get(name, 0) for name in (*_BESIDE[stage], *_OWN[stage]))


def resuming(held: Mapping[str, int]) -> int:
    """Return the most bytes per chip that a start or a resume takes before its first step: the first parameters and the
    reference that is cast from them, or, when the former are gone, the state.
    """
    kept = held["params"] + held.get("frozen", 0) + held.get("reference", 0)
    return kept + max(held["optimizer"], held.get("fetched_reference", 0))


_BESIDE: Mapping[str, tuple[str, ...]] = {
    "compute_params": ("optimizer", "frozen", "reference"),
    "decode_params": ("optimizer", "frozen", "reference"),
    "sample": ("params", "optimizer", "frozen", "reference"),
    "recall": ("params", "optimizer", "reference", "fetched_reference"),
    "regress": ("reference",),
}
_OWN: Mapping[str, tuple[str, ...]] = {
    "compute_params": ("params", "compute_params"),
    "decode_params": ("params", "decode_params"),
    "sample": ("decode_params",),
    "recall": ("compute_params", "frozen"),
    "regress": ("params", "optimizer", "frozen"),
}


def nbytes(tree: Any) -> int:
    """Sum what the leaves of a tree of placed shapes take on one device."""
    return sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * _item(leaf) for leaf in jax.tree.leaves(tree))


def _item(leaf: Any) -> int:
    return int(leaf.dtype.itemsize)
