"""Sample completions of prompts and print them."""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from pydantic import ValidationError
from rich.console import Console as Rich
from rich.text import Text

from dar_jax import models
from dar_jax.config.run_config import RunConfig
from dar_jax.errors import SettingError
from dar_jax.parallel import decode_mesh, shardings
from dar_jax.policies.policy import Policy, open_policy
from dar_jax.records import Completion, Prompt
from dar_jax.sampling import Sampler, Sampling, completions
from dar_jax.terminal.console import Console
from dar_jax.terminal.json_text import json_text
from dar_jax.terminal.visible import visible
from dar_jax.tokens import Tokenizer, generation_settings

_OPTIONS = {"max_completion_length": "--max-tokens"}


@dataclass(frozen=True, kw_only=True)
class SampleRequest:
    """How to sample, as far as the user says; what is None stays the run's own or, for a model without a run, what
    its generation_config.json states (else temperature 1, nothing cut off, 512 tokens at most).

    `raw` gives the prompt as bare text where the chat template would be used; `template_arguments` join the run's.
    `dtype` is bfloat16 by default, on a CPU float32.
    """

    step: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    max_tokens: int | None = None
    seed: int = 0
    system: str | None = None
    raw: bool = False
    template_arguments: Mapping[str, Any] = field(default_factory=dict)
    dtype: Literal["bfloat16", "float32"] | None = None


class PolicySampler:
    """A policy ready to sample: its tokenizer, sampler, and parameters sharded for decoding.

    `fits` is the longest prompt (tokens) that leaves room for a whole completion.
    """

    def __init__(self, policy: Policy, tokenizer: Tokenizer, sampling: Sampling, asked: SampleRequest) -> None:
        self.tokenizer, self.sampling, self.fits = tokenizer, sampling, sampling.max_prompt_length
        self.title = _title(policy, sampling)
        self._where, self._mesh = policy.source, policy.mesh
        self._params = _decode_params(policy, asked.dtype)
        self._key = jax.random.key(asked.seed)
        ends, pad = tokenizer.eos_ids, tokenizer.pad_id
        self._sampler = Sampler(sampling, policy.decoder, _mesh(policy), eos_ids=ends, pad_id=pad)

    def completions(self, prompts: Sequence[Prompt], group_size: int = 1) -> list[Completion]:
        """Return `group_size` completions of each prompt; random keys derive from the seed and the prompt's id."""
        tokens = self.tokenizer.encode_prompts(prompts)
        for ids in tokens:
            if not ids:
                raise SettingError("--prompt: the prompt gives no tokens; say something")
            if len(ids) > self.fits:
                raise SettingError(
                    f"--prompt: a prompt has {len(ids)} tokens; {self._where} has room for {self.fits} before a"
                    f" completion of {self.sampling.max_completion_length}: shorten it or lower --max-tokens"
                )
        with jax.set_mesh(self._mesh):
            ids = [prompt.id for prompt in prompts]
            rollouts = self._sampler.sample(self._params, tokens, ids, group_size, self._key)
        return completions(rollouts, prompts, self.tokenizer)


def open_sampler(source: str, asked: SampleRequest, *, talk: bool = False) -> PolicySampler:
    """Open a run's policy or a model; `talk` requires a chat template.

    Raises SettingError if there is no such policy, or it cannot be sampled as requested.
    """
    if not 0 <= asked.seed < 2**32:
        raise SettingError(f"--seed {asked.seed}: expected 0 to 4294967295")
    policy = open_policy(source, asked.step, Console("rich" if sys.stderr.isatty() else "quiet", sys.stderr))
    sampling = _sampling(policy, asked)
    tokenizer = _tokenizer(policy, asked, talk=talk)
    tokenizer.fit(policy.decoder.vocab_size, policy.source)
    return PolicySampler(policy, tokenizer, sampling, asked)


def sample(source: str, texts: Sequence[str], count: int, asked: SampleRequest, *, as_json: bool = False) -> None:
    """Print `count` completions of each text."""
    if count < 1:
        raise SettingError(f"-n {count}: expected 1 or more completions")
    speaker = open_sampler(source, asked)
    out = Rich(file=sys.stdout, highlight=False, soft_wrap=True)
    prompts = [Prompt(id=row, text=text) for row, text in enumerate(texts)]
    if out.is_terminal and not as_json:
        out.print(Text(visible(speaker.title), style="dim"))
    for completion in speaker.completions(prompts, count):
        if as_json:
            print(json_text(_plain(completion)))
        else:
            _show(out, completion, alone=len(prompts) * count == 1, titled=len(prompts) > 1)


def length(completion: Completion) -> str:
    """Return the length of a completion, and whether it was truncated."""
    count = completion.token_count
    return f"{count} token{'s' * (count != 1)}" + ("" if completion.ended else ", cut off")


def _show(out: Rich, completion: Completion, *, alone: bool, titled: bool) -> None:
    """Print one completion: in a pipe a lone one bare, otherwise under a line that counts it."""
    if titled and completion.sample == 0:
        out.print(Text(visible(f"> {completion.prompt.text}"), style="bold"))
    if out.is_terminal or not alone:
        out.print(Text(f"[{completion.sample + 1}] {length(completion)}", style="cyan"))
    out.print(Text(visible(completion.text)))


def _plain(completion: Completion) -> dict[str, Any]:
    return {
        "prompt": completion.prompt.text,
        "sample": completion.sample,
        "completion": completion.text,
        "tokens": completion.token_count,
        "ended": completion.ended,
    }


def _title(policy: Policy, sampling: Sampling) -> str:
    number = ""
    if policy.config and policy.number is not None:
        step, update = divmod(policy.number, policy.config.learning.updates_per_batch)
        number = f", step {step}" + f", update {update}" * (update > 0)
    cuts = f", top-k {sampling.top_k}" * (sampling.top_k is not None) + f", top-p {sampling.top_p}" * (
        sampling.top_p < 1
    )
    return f"{policy.source}{number}, temperature {sampling.temperature}{cuts}"


def _sampling(policy: Policy, asked: SampleRequest) -> Sampling:
    """Return the sampling settings: the request's, else the run's, else the model's."""
    own = _own_sampling(policy)
    given = {"temperature": asked.temperature, "top_p": asked.top_p, "top_k": asked.top_k}
    given |= {"max_completion_length": asked.max_tokens}
    own |= {name: value for name, value in given.items() if value is not None}
    room = policy.decoder.max_positions - own["max_completion_length"]
    if room < 1:
        raise SettingError(
            f"--max-tokens {own['max_completion_length']}: {policy.source} was made for"
            f" {policy.decoder.max_positions} positions, prompt and completion together; lower it"
        )
    try:
        return Sampling(**own, max_prompt_length=room)
    except ValidationError as error:
        fault = error.errors()[0]
        name = str(fault["loc"][0])
        option = _OPTIONS.get(name, f"--{name.replace('_', '-')}")
        raise SettingError(f"{option} {fault['input']}: {fault['msg']}") from None


def _own_sampling(policy: Policy) -> dict[str, Any]:
    if policy.config:
        settings = policy.config.sampling
        return {
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            "top_k": settings.top_k,
            "max_completion_length": settings.max_completion_length,
        }
    stated = generation_settings(policy.source)
    own = {name: stated[name] for name in ("temperature", "top_p") if stated.get(name) is not None}
    # Files write top_k 0 for none.
    return own | {
        "top_k": stated.get("top_k") or None,
        "max_completion_length": min(512, max(1, policy.decoder.max_positions // 2)),
    }


def _tokenizer(policy: Policy, asked: SampleRequest, *, talk: bool) -> Tokenizer:
    """Open the policy's tokenizer again, with what the user asks of it; a string becomes a turn or stays bare."""
    own, place = policy.tokenizer_settings, policy.words
    wrap = policy.tokenizer.has_chat_template and not asked.raw and (talk or _talks(policy.config))
    if talk and not wrap:
        raise SettingError(
            "--chat: --raw gives prompts without the chat template that a conversation needs; leave it out"
            if asked.raw
            else f"--chat: {place} has no chat template, so nothing says how turns are written; use --prompt"
        )
    if asked.system is not None and not wrap:
        raise SettingError(f"--system: the prompt goes to {place} as bare text, without a chat template; leave it out")
    settings = dataclasses.replace(
        own,
        wrap_text=wrap,
        system=own.system if asked.system is None else asked.system,
        template_arguments={**own.template_arguments, **asked.template_arguments},
    )
    return settings.open(place)


def _talks(config: RunConfig | None) -> bool:
    """Whether prompts go through the chat template where there is one: not if the run's own were bare text."""
    if config is None or config.tokenizer.wrap_text:
        return True
    try:
        return config.data.load()[0].messages is not None
    except SettingError:  # the run's data lie elsewhere; a model that has a template is made to talk
        return True


def _decode_params(policy: Policy, dtype: str | None) -> models.Params:
    """Return the parameters cast and sharded for decoding."""
    kind = jnp.dtype(dtype or ("float32" if jax.default_backend() == "cpu" else "bfloat16"))
    shapes, axes = models.abstract(policy.decoder), models.logical_axes(policy.decoder)
    places = shardings(shapes, axes, _mesh(policy))
    return jax.tree.map(lambda leaf, place: jax.device_put(leaf.astype(kind), place), policy.params, places)


def _mesh(policy: Policy) -> Mesh:
    return decode_mesh(policy.mesh, policy.decoder.kv_heads, policy.config.mesh.decode if policy.config else None)
