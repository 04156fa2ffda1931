"""The parts of a run that no step changes: data, tokenizer, policy, learner."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from dar_jax import models, parallel
from dar_jax.batches import Rollouts
from dar_jax.checkpoints import huggingface
from dar_jax.config.run_config import RunConfig
from dar_jax.data import Source, prompt_ids
from dar_jax.learner import Learner
from dar_jax.models import DecoderConfig, Params
from dar_jax.records import Completion, Prompt
from dar_jax.sampling import Sampler, local_completions, recorded
from dar_jax.sampling.formats import param_formats
from dar_jax.terminal.console import Console
from dar_jax.tokens import Tokenizer


class Purpose(IntEnum):
    """The use of a random key, part of its address."""

    WEIGHTS = 0
    SAMPLES = 1
    MINIBATCHES = 2
    EVALUATION = 3


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """The admitted prompts of a source, shuffled by a seed; `digest` is that of their token ids."""

    source: Source
    ids: list[int]
    seed: int
    digest: str

    def __iter__(self) -> Iterator[Prompt]:
        return (self.source[number] for number in self.ids)

    def at(self, start: int, count: int) -> list[Prompt]:
        """Return the prompts at these positions of the endless shuffled stream."""
        return [self.source[self.ids[i]] for i in prompt_ids(len(self.ids), self.seed, start, count)]


@dataclass(frozen=True, kw_only=True)
class Session:
    """The parts of a run that no step changes."""

    config: RunConfig
    mesh: Mesh
    decode_mesh: Mesh
    tokenizer: Tokenizer
    decoder: DecoderConfig
    learner: Learner
    prompts: Prompts
    held_out: Prompts | None

    def key(self, purpose: Purpose, step: int = 0) -> jax.Array:
        """Return the random key of a purpose and step; it enters the mesh by `parallel.replicated`."""
        return jax.random.fold_in(jax.random.fold_in(jax.random.key(self.config.seed), purpose), step)

    def start_params(self, console: Console) -> Params:
        """Load or draw the policy's initial parameters, each directly into its shards."""
        places, lora = self.learner.param_shardings, self.decoder.lora
        key = parallel.replicated(self.key(Purpose.WEIGHTS), self.mesh)
        if self.config.policy.weights == "random":
            return jax.jit(models.init, static_argnums=0, out_shardings=places)(self.decoder, key)
        with console.reading(self.config.policy.path) as progress:
            if lora is None:
                return huggingface.load(self.config.policy.path, places, progress=progress)[1]
            adapter_places, base_places = models.split(places, lora)
            dtype = jnp.dtype(self.config.learning.compute_dtype)
            base = huggingface.load(self.config.policy.path, base_places, dtype=dtype, progress=progress)[1]
        draw = jax.jit(lambda key: models.split(models.init(self.decoder, key), lora)[0], out_shardings=adapter_places)
        return models.join(base, draw(key))

    def sampler(self, temperature: float | None = None) -> Sampler:
        """Build the sampler of the run, or one of another temperature."""
        return build_sampler(self.config, self.decoder, self.decode_mesh, self.tokenizer, temperature)

    def sample_in_chunks(
        self,
        sampler: Sampler,
        params: Params,
        prompts: Sequence[Prompt],
        group_size: int,
        key: jax.Array,
        chunks: int,
    ) -> Iterator[tuple[Rollouts, dict[int, Completion]]]:
        """Yield rollouts of `group_size` completions a prompt, in `chunks` equal parts of the prompts, sharded for the
        learner.

        Each part comes with this host's completions by global row, decoded to text while the devices sample the next.
        """
        tokens, ids = self.tokenizer.encode_prompts(prompts), [prompt.id for prompt in prompts]
        each = len(prompts) // chunks
        for chunk, sampled in enumerate(sampler.sample_in_chunks(params, tokens, ids, group_size, key, chunks)):
            rollouts, first = parallel.relaid(sampled, self.mesh), chunk * each
            own = local_completions(rollouts, prompts[first : first + each], self.tokenizer, self.mesh)
            yield rollouts, {first * group_size + row: completion for row, completion in own.items()}

    def demonstrations(self, prompts: Sequence[Prompt]) -> Rollouts:
        """Return the recorded completions of these prompts, or the pair of each (the chosen one first), as rollouts."""
        encode, texts = self.tokenizer.encode_completion, [self.texts(prompt) for prompt in prompts]
        read = zip(prompts, self.tokenizer.encode_prompts(prompts), texts, strict=True)
        rows = [(prompt, tokens, text) for prompt, tokens, texts in read for text in texts]
        return recorded(
            [tokens for _, tokens, _ in rows],
            [encode(text, conversation=prompt.messages is not None) for prompt, _, text in rows],
            self.config.sampling.max_prompt_length,
            self.config.sampling.max_completion_length,
            self.mesh,
        )

    def texts(self, prompt: Prompt) -> tuple[str, ...]:
        """Return a prompt's recorded completion, or its pair (the chosen one first)."""
        source = self.prompts.source
        return source.pair(prompt.id) if "pairs" in self.config.algorithm.needs else (source.completion(prompt.id),)


def build_sampler(
    config: RunConfig, decoder: DecoderConfig, mesh: Mesh, tokenizer: Tokenizer, temperature: float | None = None
) -> Sampler:
    """Build the sampler of a run; its `temperature` is that of the settings unless given."""
    settings = config.sampling
    if temperature is not None:
        settings = dataclasses.replace(settings, temperature=temperature)
    return Sampler(
        settings,
        decoder,
        mesh,
        eos_ids=tokenizer.eos_ids,
        pad_id=tokenizer.pad_id,
        logprob_temperature=config.learning.logprob_temperature,
    )


def decode_places(config: RunConfig, sampler: Sampler) -> Params:
    """Return the shardings (on a TPU also the layouts) of the parameters while the run samples."""
    dtype = jnp.dtype(config.learning.compute_dtype)
    return (
        param_formats(sampler, config.prompts_per_chunk, config.group_size, dtype)
        if config.online
        else sampler.shardings
    )
