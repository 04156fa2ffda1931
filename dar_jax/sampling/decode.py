"""Our own sampler: one prefill a prompt, shared by its completions, then one donated loop over the KV cache."""

import functools as ft
from collections import Counter
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.stages import Lowered
from pydantic import PositiveInt
from pydantic.dataclasses import dataclass

from dar_jax import models, parallel
from dar_jax.batches import Inputs, Rollouts, check
from dar_jax.models import CACHE_AXES, Cache, DecoderConfig, Params
from dar_jax.sampling.choose import Choice, logprobs
from dar_jax.sampling.prefill import prefill
from dar_jax.settings import STRICT
from dar_jax.tokens import pad


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Sampling(Choice):
    """How completions are sampled; lengths are in tokens, the completion's includes its EOS."""

    max_prompt_length: PositiveInt = 512
    max_completion_length: PositiveInt = 512


def bucket(longest: int, limit: int) -> int:
    """Round a prompt length up to 16, 24, 32, 48, 64, ... so that a run compiles a handful of programs."""
    size = 16
    while size < longest:
        size += size // 2 if size & (size - 1) == 0 else size // 3
    return min(size, max(limit, longest))


class Sampler:
    """Sample completions of token prompts on a mesh, the decoder's (`parallel.decode_mesh`).

    `eos_ids` is a set: any of them ends a completion and belongs to it. `logprob_temperature` is the learner's, so that
    the reported log-probs differ from the scorer's by numerics alone.
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
        # A CPU would copy each layer's weights and cache out of their stacks for every token: there they lie apart.
        apart = mesh.size == 1 and mesh.devices.item().platform == "cpu"
        run = ft.partial(_sample, config, settings, tuple(sorted(eos_ids)), pad_id, logprob_temperature, apart)
        self._run = jax.jit(run, static_argnums=0)

    def sample(
        self,
        params: Params,
        prompts: Sequence[Sequence[int]],
        prompt_ids: Sequence[int],
        group_size: int,
        key: jax.Array,
    ) -> Rollouts:
        """Sample `group_size` completions of each prompt, rows prompt-major.

        The randomness of a completion is addressed by (key, prompt id, sample number): it does not depend on the batch
        around it, on the device count or on restarts. A prompt that comes twice goes on counting its samples.
        """
        size = bucket(max(map(len, prompts)), self.settings.max_prompt_length)
        token_PS, mask_PS = pad(prompts, self.pad_id, side="left", length=size)
        address_P2 = _addresses(prompt_ids, group_size)
        inputs = parallel.rows((token_PS, mask_PS, address_P2), self.mesh)
        with jax.set_mesh(self.mesh):
            return check(self._run(group_size, params, *inputs, parallel.replicated(key, self.mesh)))

    def abstract_cache(self, rows: int, dtype: Any) -> Cache:
        """Give the shapes of the cache of so many completions at their longest, with their places."""
        size = bucket(self.settings.max_prompt_length, self.settings.max_prompt_length)
        size += self.settings.max_completion_length
        shapes = jax.eval_shape(lambda: Cache.zeros(self.config, rows, size, dtype))
        places = parallel.shardings(shapes, jax.tree.map(lambda _: CACHE_AXES, shapes), self.mesh)
        cache: Cache = parallel.placed(shapes, places)
        return cache

    def lower(self, params: Params, prompts: int, group_size: int) -> dict[str, Lowered]:
        """Lower the sampling of so many prompts of the greatest length, for abstract parameters; by program's name."""
        shape = (prompts, bucket(self.settings.max_prompt_length, self.settings.max_prompt_length))
        inputs = parallel.abstract_rows(
            (
                jax.ShapeDtypeStruct(shape, jnp.int32),
                jax.ShapeDtypeStruct(shape, jnp.bool_),
                jax.ShapeDtypeStruct((prompts, 2), jnp.uint32),
            ),
            self.mesh,
        )
        key = jax.eval_shape(lambda: jax.random.key(0))
        whole = NamedSharding(self.mesh, PartitionSpec())
        with jax.set_mesh(self.mesh):
            return {"sample": self._run.lower(group_size, params, *inputs, parallel.placed(key, whole))}


def _addresses(prompt_ids: Sequence[int], group_size: int) -> np.ndarray:
    """Pair each prompt's id with the number of its first sample in this batch."""
    seen: Counter[int] = Counter()
    pairs = []
    for prompt_id in prompt_ids:
        pairs.append((prompt_id, seen[prompt_id] * group_size))
        seen[prompt_id] += 1
    return np.asarray(pairs, np.uint32).reshape(-1, 2)


def _row_keys(key: jax.Array, address_P2: jax.Array, group_size: int) -> jax.Array:
    def of_prompt(address: jax.Array) -> jax.Array:
        prompt_key = jax.random.fold_in(key, address[0])
        samples = address[1] + jnp.arange(group_size, dtype=jnp.uint32)
        return jax.vmap(ft.partial(jax.random.fold_in, prompt_key))(samples)

    return jax.vmap(of_prompt)(address_P2).reshape(-1)


def _sample(
    config: DecoderConfig,
    settings: Sampling,
    eos_ids: tuple[int, ...],
    pad_id: int,
    logprob_temperature: float,
    apart: bool,
    group_size: int,
    params: Params,
    token_PS: jax.Array,
    mask_PS: jax.Array,
    address_P2: jax.Array,
    key: jax.Array,
) -> Rollouts:
    model = models.bind(config, params)
    length, prompt_size = settings.max_completion_length, token_PS.shape[1]
    key_B = _row_keys(key, address_P2, group_size)
    rows = ft.partial(jnp.repeat, repeats=group_size, axis=0)
    hidden_PD, cache = prefill(model, token_PS, mask_PS, group_size, prompt_size + length)
    logits_BV = jnp.repeat(model.logits(hidden_PD), group_size, axis=0)
    if apart:
        cache, model = models.listed(cache), models.bind(config, {**params, "layers": models.listed(params["layers"])})
    prompt_length_B = rows(mask_PS.sum(1))
    mask_BS = jnp.pad(rows(mask_PS), ((0, 0), (0, length)), constant_values=True)
    count = key_B.shape[0]

    def speak(written: dict[str, jax.Array], logits_BV: jax.Array) -> dict[str, jax.Array]:
        step, before_B = written["step"], written["ended_B"]
        at_step_B = jax.vmap(jax.random.fold_in, (0, None))(key_B, step)
        token_B = jnp.where(before_B, pad_id, settings(logits_BV, at_step_B))
        logprob_B = logprobs(logits_BV / logprob_temperature, token_B)
        return {
            "step": step + 1,
            "token_B": token_B,
            "token_BT": written["token_BT"].at[:, step].set(token_B),
            "logprob_BT": written["logprob_BT"].at[:, step].set(jnp.where(before_B, 0.0, logprob_B)),
            "mask_BT": written["mask_BT"].at[:, step].set(~before_B),
            "ended_B": before_B | jnp.isin(token_B, jnp.asarray(eos_ids)),
        }

    def going(carry: Any) -> jax.Array:
        return (carry[0]["step"] < length) & ~carry[0]["ended_B"].all()

    def advance(carry: Any) -> Any:
        written, cache = carry
        last = written["step"] - 1
        hidden_B1D, cache = model(
            Inputs(token_BT=written["token_B"][:, None], mask_BS=mask_BS),
            position_BT=(prompt_length_B + last)[:, None],
            cache=cache,
            offset=prompt_size + last,
        )
        return speak(written, model.logits(hidden_B1D[:, 0])), cache

    start = {
        "step": jnp.zeros((), jnp.int32),
        "token_B": jnp.zeros(count, jnp.int32),
        "token_BT": jnp.full((count, length), pad_id, jnp.int32),
        "logprob_BT": jnp.zeros((count, length), jnp.float32),
        "mask_BT": jnp.zeros((count, length), bool),
        "ended_B": jnp.zeros(count, bool),
    }
    end, _ = jax.lax.while_loop(going, advance, (speak(start, logits_BV), cache))
    return Rollouts(
        inputs_B=Inputs(
            token_BT=jnp.concatenate([rows(token_PS), end["token_BT"]], 1),
            mask_BS=jnp.concatenate([rows(mask_PS), end["mask_BT"]], 1),
        ),
        mask_completion_BT=end["mask_BT"],
        ended_B=end["ended_B"],
        sampler_logprob_BT=end["logprob_BT"],
    )
