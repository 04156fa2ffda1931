"""The sampler: one prefill a prompt, shared by its completions, then one decode loop over a donated KV cache."""

import functools as ft
from collections import Counter
from collections.abc import Iterator, Sequence

import jax
import numpy as np
from jax.sharding import Mesh
from pydantic.dataclasses import dataclass

from dar_jax import models, parallel
from dar_jax.batches import Inputs, Rollouts, check
from dar_jax.models import Cache, DecoderConfig, Params
from dar_jax.sampling.choose import Choice
from dar_jax.sampling.decode import DecodeSettings, decode
from dar_jax.sampling.prefill import prefill
from dar_jax.settings.fields import STRICT, Count, FreeOnResume
from dar_jax.tokens import pad


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Sampling(Choice):
    """How completions are sampled; lengths are in tokens, EOS included.

    A step's prompts are sampled in `chunks`: while the judge reads the completions of one chunk, the next is sampled.
    More chunks hide a slower judge and need less memory for the cache, but each reads all weights.
    """

    max_prompt_length: Count = 512
    max_completion_length: Count = 512
    chunks: FreeOnResume[Count] = 1


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
        self.prefill_program = jax.jit(ft.partial(_prefill, config, length, unstacked), static_argnums=0)
        decode_settings = DecodeSettings(
            choice=settings,
            length=length,
            eos_ids=tuple(sorted(eos_ids)),
            pad_id=pad_id,
            temperature=logprob_temperature,
        )
        self.decode_step = ft.partial(decode, config, decode_settings, unstacked)
        self.decode_program = jax.jit(self.decode_step, static_argnums=0, donate_argnums=3)

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
            hidden_PD, cache = self.prefill_program(group_size, params, prompts_P)
            rollouts, _ = self.decode_program(group_size, params, hidden_PD, cache, prompts_P, address_P2, key)
            return check(rollouts)


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
