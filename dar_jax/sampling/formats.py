"""Formats of the parameters while decoding, and the sampler's programs lowered for abstract arguments.

Used before a run samples, and to plan for devices that are not there.
"""

import functools as ft
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.layout import Format, Layout
from jax.sharding import NamedSharding, PartitionSpec
from jax.stages import Lowered

from dar_jax import models, parallel
from dar_jax.batches import Inputs
from dar_jax.models import CACHE_AXES, Cache, Params
from dar_jax.sampling.sampler import Sampler, bucket


def param_formats(sampler: Sampler, prompts: int, group_size: int, dtype: Any) -> Params:
    """Return the format (sharding, on a TPU also layout) of each parameter for decoding `prompts` prompts.

    On a TPU the decode program holds a copy of each matrix whose layout it does not read directly. Matrices are
    row-major, but those with heads have the layout that the compiler chooses (one compilation).
    """
    if sampler.mesh.devices.flat[0].platform != "tpu":
        return sampler.shardings
    shapes = models.abstract(sampler.config)
    requested = jax.tree.map(_layout, shapes, sampler.shardings)
    rest = _inputs(sampler, prompts, group_size, dtype)
    in_shardings = requested, *(jax.tree.map(lambda leaf: leaf.sharding, each) for each in rest)
    decode = jax.jit(ft.partial(sampler.decode_step, group_size), in_shardings=in_shardings, donate_argnums=2)
    with jax.set_mesh(sampler.mesh):
        compiled = decode.lower(jax.tree.map(lambda leaf: leaf.update(dtype=dtype), shapes), *rest).compile()
    chosen: Params = compiled.input_formats[0][0]
    return chosen


def lower_sample(sampler: Sampler, params: Params, prompts: int, group_size: int) -> dict[str, Lowered]:
    """Lower the programs that sample `prompts` prompts of maximum length, for abstract parameters."""
    hidden_PD, cache, prompts_P, *rest = _inputs(sampler, prompts, group_size, params["embed"].dtype)
    with jax.set_mesh(sampler.mesh):
        return {
            "prefill": sampler.prefill_program.lower(group_size, params, prompts_P),
            "decode": sampler.decode_program.lower(group_size, params, hidden_PD, cache, prompts_P, *rest),
        }


def abstract_cache(sampler: Sampler, rows: int, dtype: Any) -> Cache:
    """Return shapes and shardings of the cache of `rows` completions of maximum length."""
    size = bucket(sampler.settings.max_prompt_length, sampler.settings.max_prompt_length)
    size += sampler.settings.max_completion_length
    shapes = jax.eval_shape(lambda: Cache.zeros(sampler.config, rows, size, dtype))
    shardings = parallel.shardings(shapes, jax.tree.map(lambda _: CACHE_AXES, shapes), sampler.mesh)
    cache: Cache = parallel.placed(shapes, shardings)
    return cache


def _inputs(sampler: Sampler, prompts: int, group_size: int, dtype: Any) -> tuple[Any, ...]:
    """Return shapes and shardings of the decode inputs besides the parameters, for prompts of maximum length."""
    size = bucket(sampler.settings.max_prompt_length, sampler.settings.max_prompt_length)
    shapes = (
        jax.ShapeDtypeStruct((prompts, sampler.config.width), dtype),
        jax.ShapeDtypeStruct((prompts, size), jnp.int32),
        jax.ShapeDtypeStruct((prompts, size), jnp.bool_),
        jax.ShapeDtypeStruct((prompts, 2), jnp.uint32),
    )
    hidden_PD, token_PS, mask_PS, address_P2 = parallel.abstract_rows(shapes, sampler.mesh)
    cache = abstract_cache(sampler, prompts * group_size, dtype)
    prompts_P = Inputs(token_BT=token_PS, mask_BS=mask_PS)
    key = jax.eval_shape(lambda: jax.random.key(0))
    whole = NamedSharding(sampler.mesh, PartitionSpec())
    return hidden_PD, cache, prompts_P, address_P2, parallel.placed(key, whole)


def _layout(shape: jax.ShapeDtypeStruct, sharding: NamedSharding) -> Format:
    headed = shape.ndim == 4
    return Format(Layout.AUTO if headed else Layout(major_to_minor=tuple(range(shape.ndim))), sharding)
