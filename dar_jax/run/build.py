"""Build a run's session from its settings, and check that they fit together.

Nothing here writes to disk: a mistake in the settings or the data ends a run before it has a folder.
"""

import dataclasses
import platform
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from jax.sharding import Mesh

from dar_jax import __version__, hosts, models, parallel
from dar_jax.checkpoints import huggingface
from dar_jax.config.run_config import RunConfig, flat
from dar_jax.data import admit
from dar_jax.errors import SettingError
from dar_jax.learner import Learner
from dar_jax.models import DecoderConfig
from dar_jax.run.session import Prompts, Session, build_sampler, decode_places
from dar_jax.terminal.console import Console
from dar_jax.tokens import Tokenizer


def open_session(config: RunConfig, console: Console) -> Session:
    """Open data, tokenizer and model. Raises SettingError if one cannot be used, or differs between hosts."""
    hosts.agree(_versions() | {key: repr(value) for key, value in flat(config).items()})
    with hosts.together("session"):
        session = _open(config, console)
    hosts.agree({"policy.path: config.json": repr(session.decoder), "data: prompts": session.prompts.digest})
    return session


def _open(config: RunConfig, console: Console) -> Session:
    if config.sampling.truncates and "reference" in config.algorithm.needs:
        console.warn(
            "sampling.top_k and sampling.top_p truncate pi_t, which the log-ratio to the reference does not account"
            " for: the weights are biased; leave them off, or accept the bias"
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
            f"prompts_per_step: got {config.prompts_per_step}, but the data has {len(prompts.ids)} prompts: every step"
            " repeats some of them; lower it, or use more data"
        )
    if config.tokenizer.wrap_text or prompts.at(0, 1)[0].messages is not None:
        for doubt in tokenizer.doubts():
            console.warn(doubt)
    evaluated = config.evaluation
    held_out = _prompts(config, evaluated.data, tokenizer, console) if evaluated else None
    decode_mesh = parallel.decode_mesh(mesh, decoder.kv_heads, config.mesh.decode)
    sampler = build_sampler(config, decoder, decode_mesh, tokenizer)
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


def read_decoder(config: RunConfig, mesh: Mesh) -> DecoderConfig:
    """Read the policy's config.json, with the adapters and attention of the settings. Raises SettingError."""
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
            f"sampling: max_prompt_length + max_completion_length is {total}, but {config.policy.path} has"
            f" {decoder.max_positions} positions; lower one of them"
        )


def _check_variety(config: RunConfig) -> None:
    greedy = "temperature" if config.sampling.temperature == 0 else "top_k" if config.sampling.top_k == 1 else None
    if greedy and config.online and config.group_size > 1:
        raise SettingError(
            f"sampling.{greedy}: got {getattr(config.sampling, greedy):g}, which makes the {config.group_size}"
            f" completions of a prompt equal, so that nothing can be learned from them; raise sampling.{greedy}"
        )


def uneven_rows(config: RunConfig, sizes: Mapping[str, int]) -> list[str]:
    """Return a warning for each kind of rows that cannot be divided among the devices of a mesh of these sizes."""
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
            f" shards (data x fsdp); choose a multiple of {parts * config.sampling.chunks}, or raise mesh.tensor"
        )


def _versions() -> dict[str, str]:
    """Return the versions that must agree between hosts: others would compile other programs."""
    found = {"python": ".".join(platform.python_version_tuple()[:2]), "dar-jax": __version__}
    for name in ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "libtpu"):
        try:
            found[f"package {name}"] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[f"package {name}"] = "absent"
    return found
