"""The decode loop: one token of every completion an iteration, until all have ended."""

import functools as ft
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from dar_jax import models
from dar_jax.batches import Inputs, Rollouts
from dar_jax.models import Cache, DecoderConfig, Params
from dar_jax.sampling.choose import Choice, logprobs


@dataclass(frozen=True, kw_only=True)
class DecodeSettings:
    """Sampling rule, maximum number of tokens, EOS ids, pad id, and the temperature of the returned log-probs."""

    choice: Choice
    length: int
    eos_ids: tuple[int, ...]
    pad_id: int
    temperature: float


def decode(
    config: DecoderConfig,
    settings: DecodeSettings,
    unstacked: bool,
    group_size: int,
    params: Params,
    hidden_PD: jax.Array,
    cache: Cache,
    prompts_P: Inputs,
    address_P2: jax.Array,
    key: jax.Array,
) -> tuple[Rollouts, Cache]:
    """Return the rollouts and the final cache, which must be an output since it is donated.

    With `unstacked` the layers' weights are separate arrays (see `Sampler`).
    """
    model = models.bind(config, {**params, "layers": models.unstacked(params["layers"])} if unstacked else params)
    length, prompt_size = settings.length, prompts_P.token_BT.shape[1]
    key_B = _row_keys(key, address_P2, group_size)
    token_BP, prompt_mask_BP = (jnp.repeat(each, group_size, 0) for each in (prompts_P.token_BT, prompts_P.mask_BS))
    logits_BV = jnp.repeat(model.logits(hidden_PD), group_size, axis=0)
    prompt_length_B = prompt_mask_BP.sum(1)
    mask_BS = jnp.pad(prompt_mask_BP, ((0, 0), (0, length)), constant_values=True)
    count = key_B.shape[0]

    def emit_token(written: dict[str, jax.Array], logits_BV: jax.Array) -> dict[str, jax.Array]:
        step, before_B = written["step"], written["ended_B"]
        at_step_B = jax.vmap(jax.random.fold_in, (0, None))(key_B, step)
        token_B = jnp.where(before_B, settings.pad_id, settings.choice(logits_BV, at_step_B))
        logprob_B = logprobs(logits_BV / settings.temperature, token_B)
        return {
            "step": step + 1,
            "token_B": token_B,
            "token_BT": written["token_BT"].at[:, step].set(token_B),
            "logprob_BT": written["logprob_BT"].at[:, step].set(jnp.where(before_B, 0.0, logprob_B)),
            "mask_BT": written["mask_BT"].at[:, step].set(~before_B),
            "ended_B": before_B | jnp.isin(token_B, jnp.asarray(settings.eos_ids)),
        }

    def unfinished(carry: Any) -> jax.Array:
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
        return emit_token(written, model.logits(hidden_B1D[:, 0])), cache

    start = {
        "step": jnp.zeros((), jnp.int32),
        "token_B": jnp.zeros(count, jnp.int32),
        "token_BT": jnp.full((count, length), settings.pad_id, jnp.int32),
        "logprob_BT": jnp.zeros((count, length), jnp.float32),
        "mask_BT": jnp.zeros((count, length), bool),
        "ended_B": jnp.zeros(count, bool),
    }
    end, cache = jax.lax.while_loop(unfinished, advance, (emit_token(start, logits_BV), cache))
    rollouts = Rollouts(
        inputs_B=Inputs(
            token_BT=jnp.concatenate([token_BP, end["token_BT"]], 1),
            mask_BS=jnp.concatenate([prompt_mask_BP, end["mask_BT"]], 1),
        ),
        mask_completion_BT=end["mask_BT"],
        ended_B=end["ended_B"],
        sampler_logprob_BT=end["logprob_BT"],
    )
    return rollouts, cache


def _row_keys(key: jax.Array, address_P2: jax.Array, group_size: int) -> jax.Array:
    def of_prompt(address: jax.Array) -> jax.Array:
        prompt_key = jax.random.fold_in(key, address[0])
        samples = address[1] + jnp.arange(group_size, dtype=jnp.uint32)
        return jax.vmap(ft.partial(jax.random.fold_in, prompt_key))(samples)

    return jax.vmap(of_prompt)(address_P2).reshape(-1)
