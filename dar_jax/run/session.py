"""What a run works with, built from its settings: data, tokenizer, policy, sampler, learner.

Nothing here writes to disk: a mistake in the settings or the data ends a run before it has a folder.
"""

import dataclasses
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from importlib import metadata
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from dar_jax import __version__, hosts, models, parallel
from dar_jax.batches import Rollouts
from dar_jax.checkpoints import huggingface
from dar_jax.config.run_config import RunConfig, flat
from dar_jax.data import Source, admit, prompt_ids
from dar_jax.errors import SettingError
from dar_jax.learner import Learner
from dar_jax.models import DecoderConfig, Params
from dar_jax.records import Completion, Prompt
from dar_jax.sampling import Sampler, own_completions, recorded
from dar_jax.terminal.console import Console
from dar_jax.tokens import Tokenizer


class Purpose(IntEnum):
    """What a random key is for; part of its address."""

    WEIGHTS = 0
    SAMPLES = 1
    MINIBATCHES = 2
    EVALUATION = 3


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """A source's admitted prompts in the order of a seed; `digest` is that of their token ids."""

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
        """Address a random key by what it is for and the step; it enters the mesh by `parallel.replicated`."""
        return jax.random.fold_in(jax.random.fold_in(jax.random.key(self.config.seed), purpose), step)

    def start_params(self, console: Console) -> Params:
        """Read, or draw, the policy's first parameters, each straight to its place on the mesh."""
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
        """Build the sampler, at another temperature if one is given."""
        return _sampler(self.config, self.decoder, self.decode_mesh, self.tokenizer, temperature)

    def sample_in_chunks(
        self,
        sampler: Sampler,
        params: Params,
        prompts: Sequence[Prompt],
        group_size: int,
        key: jax.Array,
        chunks: int,
    ) -> Iterator[tuple[Rollouts, dict[int, Completion]]]:
        """Sample `group_size` completions of each prompt, so many equal parts of the prompts in turn, laid out as the
        learner takes them. Each part comes with the completions of this host by their numbers among all rows, read
        while the devices sample the next.
        """
        tokens, ids = self.tokenizer.encode_prompts(prompts), [prompt.id for prompt in prompts]
        each = len(prompts) // chunks
        for chunk, rollouts in enumerate(sampler.sample_in_chunks(params, tokens, ids, group_size, key, chunks)):
            laid = parallel.relaid(rollouts, self.mesh)
            first = chunk * each
            words = own_completions(laid, prompts[first : first + each], self.tokenizer, self.mesh)
            yield laid, {first * group_size + row: completion for row, completion in words.items()}

    def demonstrations(self, prompts: Sequence[Prompt]) -> Rollouts:
        """Lay out the recorded completions of these prompts, or the pair of each, the chosen one first."""
        encode, said = self.tokenizer.encode_completion, [self.texts(prompt) for prompt in prompts]
        read = zip(prompts, self.tokenizer.encode_prompts(prompts), said, strict=True)
        rows = [(prompt, tokens, text) for prompt, tokens, texts in read for text in texts]
        return recorded(
            [tokens for _, tokens, _ in rows],
            [encode(text, conversation=prompt.messages is not None) for prompt, _, text in rows],
            self.config.sampling.max_prompt_length,
            self.config.sampling.max_completion_length,
            self.mesh,
        )

    def texts(self, prompt: Prompt) -> tuple[str, ...]:
        """Read a prompt's recorded completion, or the pair of them, the chosen one first."""
        source = self.prompts.source
        return source.pair(prompt.id) if "pairs" in self.config.algorithm.needs else (source.completion(prompt.id),)


def open_session(config: RunConfig, console: Console) -> Session:
    """Open data, tokenizer and model; SettingError where one of them cannot be used, or is not every host's."""
    hosts.agree(_versions() | {key: repr(value) for key, value in flat(config).items()})
    with hosts.together("session"):
        session = _open(config, console)
    hosts.agree({"policy.path: config.json": repr(session.decoder), "data: prompts": session.prompts.digest})
    return session


def _open(config: RunConfig, console: Console) -> Session:
    if config.sampling.truncates and "reference" in config.algorithm.needs:
        console.warn(
            "sampling.top_k and sampling.top_p cut off part of pi_t, which the log-ratio to the reference does not"
            " know: the weights are biased; leave them off, or accept it"
        )
    _check_variety(config)
    if config.judge:
        config.judge.check()
    if config.evaluation and config.evaluation.judge:
        config.evaluation.judge.check()
    mesh = config.mesh.build()
    decoder = read_decoder(config, mesh)
    tokenizer = config.tokenizer.open(config.policy.path)
    _check_sizes(config, decoder, tokenizer)
    _check_rows(config, mesh, console)
    prompts = _prompts(config, config.data, tokenizer, console)
    if len(prompts.ids) < config.prompts_per_step:
        console.warn(
            f"prompts_per_step: {config.prompts_per_step}, but the data has {len(prompts.ids)} prompts: every step has"
            " some of them several times; lower it, or give more data"
        )
    if config.tokenizer.wrap_text or prompts.at(0, 1)[0].messages is not None:
        for doubt in tokenizer.doubts():
            console.warn(doubt)
    evaluated = config.evaluation
    held_out = _prompts(config, evaluated.data, tokenizer, console) if evaluated else None
    decode_mesh = parallel.decode_mesh(mesh, decoder.kv_heads, config.mesh.decode)
    sampler = _sampler(config, decoder, decode_mesh, tokenizer)
    session = Session(
        config=config,
        mesh=mesh,
        decode_mesh=decode_mesh,
        tokenizer=tokenizer,
        decoder=decoder,
        learner=Learner(config.learning, decoder, config.algorithm, mesh, decode_places(config, sampler)),
        prompts=prompts,
        held_out=held_out,
    )
    if not config.online:
        session.texts(*prompts.at(0, 1))
    return session


def _sampler(
    config: RunConfig, decoder: DecoderConfig, mesh: Mesh, tokenizer: Tokenizer, temperature: float | None = None
) -> Sampler:
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
    """Say where a run's parameters lie while it samples: as its steps ask for, where it samples every step."""
    dtype = jnp.dtype(config.learning.compute_dtype)
    return sampler.places(config.prompts_per_chunk, config.group_size, dtype) if config.online else sampler.shardings


def read_decoder(config: RunConfig, mesh: Mesh) -> DecoderConfig:
    """Read what the policy is, and how it is computed on this mesh. Raises SettingError."""
    try:
        decoder = dataclasses.replace(
            huggingface.read_config(config.policy.path),
            lora=config.policy.lora,
            attention=config.learning.attention,
        )
    except SettingError as error:
        raise SettingError(f"policy.path: {error}") from None
    models.check_attention(decoder, mesh.devices.flat[0].platform)
    return decoder


def _prompts(config: RunConfig, data: Any, tokenizer: Tokenizer, console: Console) -> Prompts:
    source = data.load()
    limit = config.sampling.max_prompt_length
    admitted = admit(source, tokenizer, limit, on_bad=config.on_bad_prompt)
    console.note(f"data: {source.where} ({source.split}): {admitted.describe()}")
    return Prompts(source=source, ids=admitted.ids, seed=config.seed, digest=admitted.digest)


def _check_sizes(config: RunConfig, decoder: DecoderConfig, tokenizer: Tokenizer) -> None:
    tokenizer.fit(decoder.vocab_size, config.policy.path)
    total = config.sampling.max_prompt_length + config.sampling.max_completion_length
    if total > decoder.max_positions:
        raise SettingError(
            f"sampling: max_prompt_length + max_completion_length is {total}, but {config.policy.path} was made for"
            f" {decoder.max_positions} positions; lower one of them"
        )


def _check_variety(config: RunConfig) -> None:
    greedy = "temperature" if config.sampling.temperature == 0 else "top_k" if config.sampling.top_k == 1 else None
    if greedy and config.online and config.group_size > 1:
        raise SettingError(
            f"sampling.{greedy}: got {getattr(config.sampling, greedy):g}, which makes the {config.group_size}"
            f" completions of a prompt the same, so that nothing is learnt from them; set sampling.{greedy} higher"
        )


def uneven_rows(config: RunConfig, sizes: Mapping[str, int]) -> list[str]:
    """Return what to say of the rows of a run that do not divide among the devices of a mesh of these sizes."""
    rows = [("learning.micro_batch_size", config.learning.micro_batch_size or config.rows_per_update, "rows")]
    if config.online:
        chunked = " a chunk" * (config.sampling.chunks > 1)
        rows.append(("prompts_per_step", config.prompts_per_chunk, f"prompts{chunked}"))
    found = (parallel.uneven(*each, sizes) for each in rows)
    return [each for each in found if each]


def _check_rows(config: RunConfig, mesh: Mesh, console: Console) -> None:
    for warning in uneven_rows(config, mesh.shape):
        console.warn(warning)
    parts = mesh.shape["data"] * mesh.shape["fsdp"]
    if hosts.count() > 1 and config.prompts_per_chunk % parts:
        chunked = f", in {config.sampling.chunks} chunks (sampling.chunks)," * (config.sampling.chunks > 1)
        raise SettingError(
            f"prompts_per_step: {config.prompts_per_step} prompts{chunked} cannot be divided among the hosts' {parts}"
            f" parts of the mesh (data x fsdp); choose a multiple of {parts * config.sampling.chunks}, or give"
            " mesh.tensor more"
        )


def _versions() -> dict[str, str]:
    """Name the versions that must be the same on every host: other programs would come of others."""
    found = {"python": ".".join(platform.python_version_tuple()[:2]), "dar-jax": __version__}
    for name in ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "libtpu"):
        try:
            found[f"package {name}"] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[f"package {name}"] = "absent"
    return found
