"""The sampler: one prefill a prompt, shared by its completions, then one decode loop over a donated KV cache."""

import functools as ft
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.layout import Format, Layout
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.stages import Lowered
from pydantic.dataclasses import dataclass

from dar_jax import models, parallel
from dar_jax.batches import Inputs, Rollouts, check
from dar_jax.models import CACHE_AXES, Cache, DecoderConfig, Params
from dar_jax.sampling.choose import Choice
from dar_jax.sampling.decode import DecodeSettings, decode
from dar_jax.sampling.prefill import prefill
from dar_jax.settings.fields import STRICT, Count
from dar_jax.tokens import pad


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Sampling(Choice):
    """How completions are sampled; lengths are in tokens, EOS included.

    A step's prompts are sampled in `chunks`: while the judge reads the completions of one chunk, the next is sampled.
    More chunks hide a slower judge and need less memory for the cache, but each reads all weights.
    """

    max_prompt_length: Count = 512
    max_completion_length: Count = 512
    chunks: Count = 1


def bucket(longest: int, limit: int) -> int:
    """Return a prompt length rounded up to 16, 24, 32, 48, 64, ... so that a run compiles few programs."""
    size = 16
    while size < longest:
        size += size // 2 if size & (size - 1) == 0 else size // 3
    return min(size, max(limit, longest))


class Sampler:
    """Sample completions of token prompts on the decode mesh (`parallel.decode_mesh`).

    Any of `eos_ids` ends a completion, and is part of it. `logprob_temperature` is the learner's, so that the sampler's
    log-probs differ from the scorer's only numerically.
    """

    def __init__(
        self,
        settings: Sampling,
        config: DecoderConfig,
        mesh: Mesh,
        *,
        eos_ids: frozenset[int],
        pad_id: int,
        logprob_temperature: float = 1.0,
    ) -> None:
        self.settings, self.config, self.mesh, self.pad_id = settings, config, mesh, pad_id
        # On a CPU, XLA copies each layer's weights and cache out of their stacks for every token: unstack them there.
        unstacked = mesh.size == 1 and mesh.devices.item().platform == "cpu"
        self.shardings: Params = parallel.shardings(models.abstract(config), models.logical_axes(config), mesh)
        length = settings.max_completion_length
        self._prefill = jax.jit(ft.partial(_prefill, config, length, unstacked), static_argnums=0)
        decode_settings = DecodeSettings(
            choice=settings,
            length=length,
            eos_ids=tuple(sorted(eos_ids)),
            pad_id=pad_id,
            temperature=logprob_temperature,
        )
        self._decode_step = ft.partial(decode, config, decode_settings, unstacked)
        self._decode = jax.jit(self._decode_step, static_argnums=0, donate_argnums=3)

    def sample(
        self,
        params: Params,
        prompts: Sequence[Sequence[int]],
        prompt_ids: Sequence[int],
        group_size: int,
        key: jax.Array,
    ) -> Rollouts:
        """Sample `group_size` completions of each prompt, rows prompt-major.

        The random key of a completion is derived from (key, prompt id, sample number): it does not depend on the rest
        of the batch, the number of devices or restarts. A prompt that occurs twice continues its sample numbers.
        """
        return next(self.sample_in_chunks(params, prompts, prompt_ids, group_size, key, 1))

    def sample_in_chunks(
        self,
        params: Params,
        prompts: Sequence[Sequence[int]],
        prompt_ids: Sequence[int],
        group_size: int,
        key: jax.Array,
        chunks: int,
    ) -> Iterator[Rollouts]:
        """Yield rollouts of equal parts of the prompts, all of one shape; otherwise as `sample`.

        A part is dispatched before the one before it is yielded, so that the devices are busy while the caller reads.
        """
        size = bucket(max(map(len, prompts)), self.settings.max_prompt_length)
        padded = *pad(prompts, self.pad_id, side="left", length=size), _addresses(prompt_ids, group_size)
        key, ahead = parallel.replicated(key, self.mesh), None
        for parts in zip(*(np.split(array, chunks) for array in padded), strict=True):
            rollouts = self._dispatch(params, parts, group_size, key)
            if ahead is not None:
                yield ahead
            ahead = rollouts
        assert ahead is not None
        yield ahead

    def _dispatch(self, params: Params, part: tuple[np.ndarray, ...], group_size: int, key: jax.Array) -> Rollouts:
        token_PS, mask_PS, address_P2 = parallel.rows(part, self.mesh)
        prompts_P = Inputs(token_BT=token_PS, mask_BS=mask_PS)
        with jax.set_mesh(self.mesh):
            hidden_PD, cache = self._prefill(group_size, params, prompts_P)
            rollouts, _ = self._decode(group_size, params, hidden_PD, cache, prompts_P, address_P2, key)
            return check(rollouts)

    def abstract_cache(self, rows: int, dtype: Any) -> Cache:
        """Return shapes and shardings of the cache of `rows` completions of maximum length."""
        size = bucket(self.settings.max_prompt_length, self.settings.max_prompt_length)
        size += self.settings.max_completion_length
        shapes = jax.eval_shape(lambda: Cache.zeros(self.config, rows, size, dtype))
        places = parallel.shardings(shapes, jax.tree.map(lambda _: CACHE_AXES, shapes), self.mesh)
        cache: Cache = parallel.placed(shapes, places)
        return cache

    def param_formats(self, prompts: int, group_size: int, dtype: Any) -> Params:
        """Return the format (sharding, on a TPU also layout) of each parameter for decoding `prompts` prompts.

        On a TPU the decode program holds a copy of each matrix whose layout it does not read directly. Matrices are
        row-major, but those with heads have the layout that the compiler chooses (one compilation).
        """
        if self.mesh.devices.flat[0].platform != "tpu":
            return self.shardings
        shapes = models.abstract(self.config)
        asked = jax.tree.map(_layout, shapes, self.shardings)
        rest = self._abstract(prompts, group_size, dtype)
        in_shardings = asked, *(jax.tree.map(lambda leaf: leaf.sharding, each) for each in rest)
        decode = jax.jit(ft.partial(self._decode_step, group_size), in_shardings=in_shardings, donate_argnums=2)
        with jax.set_mesh(self.mesh):
            compiled = decode.lower(jax.tree.map(lambda leaf: leaf.update(dtype=dtype), shapes), *rest).compile()
        chosen: Params = compiled.input_formats[0][0]
        return chosen

    def lower(self, params: Params, prompts: int, group_size: int) -> dict[str, Lowered]:
        """Lower the programs that sample `prompts` prompts of maximum length, for abstract parameters."""
        hidden_PD, cache, prompts_P, *rest = self._abstract(prompts, group_size, params["embed"].dtype)
        with jax.set_mesh(self.mesh):
            return {
                "prefill": self._prefill.lower(group_size, params, prompts_P),
                "decode": self._decode.lower(group_size, params, hidden_PD, cache, prompts_P, *rest),
            }

    def _abstract(self, prompts: int, group_size: int, dtype: Any) -> tuple[Any, ...]:
        """Return shapes and shardings of the decode inputs besides the parameters, for prompts of maximum length."""
        size = bucket(self.settings.max_prompt_length, self.settings.max_prompt_length)
        shapes = (
            jax.ShapeDtypeStruct((prompts, self.config.width), dtype),
            jax.ShapeDtypeStruct((prompts, size), jnp.int32),
            jax.ShapeDtypeStruct((prompts, size), jnp.bool_),
            jax.ShapeDtypeStruct((prompts, 2), jnp.uint32),
        )
        hidden_PD, token_PS, mask_PS, address_P2 = parallel.abstract_rows(shapes, self.mesh)
        cache, prompts_P = self.abstract_cache(prompts * group_size, dtype), Inputs(token_BT=token_PS, mask_BS=mask_PS)
        whole = NamedSharding(self.mesh, PartitionSpec())
        key = parallel.placed(jax.eval_shape(lambda: jax.random.key(0)), whole)
        return hidden_PD, cache, prompts_P, address_P2, key


def _layout(shape: jax.ShapeDtypeStruct, place: NamedSharding) -> Format:
    headed = shape.ndim == 4
    return Format(Layout.AUTO if headed else Layout(major_to_minor=tuple(range(shape.ndim))), place)


def _addresses(prompt_ids: Sequence[int], group_size: int) -> np.ndarray:
    """Return each prompt's id with the number of its first sample in this batch, `[P, 2]`."""
    seen: Counter[int] = Counter()
    pairs = []
    for prompt_id in prompt_ids:
        pairs.append((prompt_id, seen[prompt_id] * group_size))
        seen[prompt_id] += 1
    return np.asarray(pairs, np.uint32).reshape(-1, 2)


def _prefill(
    config: DecoderConfig, length: int, unstacked: bool, group_size: int, params: Params, prompts_P: Inputs
) -> tuple[jax.Array, Cache]:
    positions = prompts_P.token_BT.shape[1] + length
    hidden_PD, cache = prefill(models.bind(config, params), prompts_P, group_size, positions)
    return parallel.constrain(hidden_PD, "batch", None), models.unstacked(cache) if unstacked else cache
