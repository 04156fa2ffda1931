"""Lower the programs of a learner for abstract arguments, whose devices need not exist."""

import dataclasses

import jax
import jax.numpy as jnp
from jax.stages import Lowered

from dar_jax import models, parallel
from dar_jax.batches import Batch, Rewards, Rollouts
from dar_jax.learner import Learner
from dar_jax.models import Params


def compute_params(learner: Learner) -> Params:
    """Return shapes and shardings of the parameters in the compute dtype; those of the reference are the same."""
    state = learner.abstract_state()
    cast = parallel.placed(_cast(learner, state.params), learner.moving_shardings)
    joined: Params = models.join(state.frozen, cast)
    return joined


def decode_params(learner: Learner) -> Params:
    """Return shapes and shardings of the parameters while decoding."""
    shardings = models.join(learner.frozen_decode_shardings, learner.decode_shardings)
    decode: Params = parallel.placed(compute_params(learner), shardings)
    return decode


def lower_compute_params(learner: Learner) -> Lowered:
    """Lower the cast of the policy to the compute dtype."""
    return learner.compute_params.lower(learner.abstract_state().params)


def lower_decode_params(learner: Learner) -> Lowered:
    """Lower the cast and resharding of the policy for decoding."""
    return learner.decode_layout.lower(learner.abstract_state().params)


def lower_recall(learner: Learner, rollouts: Rollouts) -> Lowered:
    """Lower the scoring of abstract rollouts; policy and reference are scored by the same program."""
    length, head = rollouts.mask_completion_BT.shape[1], learner.abstract_state().head.params
    return learner.scores.lower(compute_params(learner), head, rollouts.inputs_B, length=length)


def lower_weigh(learner: Learner, rollouts: Rollouts, rewards: Rewards | None) -> Lowered:
    """Lower the weighing of abstract rollouts."""
    names = learner.algorithm.initial_memory()
    memory = {name: jax.ShapeDtypeStruct((), jnp.float32, sharding=learner.whole) for name in names}
    return learner.weigh_program.lower(rollouts, rewards, **({"memory": memory} if memory else {}))


def lower_part(learner: Learner, batch: Batch) -> Lowered:
    """Lower the selection of one minibatch of an abstract batch."""
    size = batch.weight_E.shape[0] // learner.settings.updates_per_batch
    return learner.take.lower(batch, jax.ShapeDtypeStruct((size,), jnp.int32, sharding=learner.whole))


def lower_regress(learner: Learner, part: Batch) -> Lowered:
    """Lower one optimizer update on an abstract part of a batch."""
    state = learner.abstract_state()
    return learner.update_program.lower(dataclasses.replace(state, frozen={}), state.frozen, part)


def _cast(learner: Learner, tree: Params) -> Params:
    dtype = jnp.dtype(learner.settings.compute_dtype)
    cast: Params = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype), tree)
    return cast
