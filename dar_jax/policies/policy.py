"""Load a policy from a run's checkpoint or a Hugging Face folder, without an optimizer.

A run folder is self-contained: it has config.json and tokenizer beside its checkpoints (`keep_words`). Checkpoints of a
run with adapters contain only these; the base model is read from where the run started.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jax.sharding import Mesh

from dar_jax import models
from dar_jax.checkpoints import huggingface, load_params, not_finite, saved_numbers, some
from dar_jax.config.config_file import parse_config
from dar_jax.config.run_config import RunConfig
from dar_jax.errors import SettingError
from dar_jax.models import DecoderConfig, Params
from dar_jax.parallel import MeshShape, placed, shardings
from dar_jax.runlog import RemoteFolder, RunFolder, layout
from dar_jax.terminal.console import Console
from dar_jax.tokens import Tokenizer, TokenizerSettings


@dataclass(frozen=True, kw_only=True)
class Policy:
    """A model with its tokenizer and its float32 parameters, sharded on the mesh.

    `tokenizer_settings.open(words)` opened its tokenizer, `words` being where that lies. `config` and `number`, the
    checkpoint's, are those of the run it comes from; None without a run.
    """

    source: str
    decoder: DecoderConfig
    words: str
    tokenizer_settings: TokenizerSettings
    tokenizer: Tokenizer
    params: Params
    mesh: Mesh
    config: RunConfig | None = None
    number: int | None = None


def open_policy(source: str | Path, step: int | None = None, console: Console | None = None) -> Policy:
    """Open the policy of a run folder, after `step` steps (default: as last saved), or of a folder or hub id.

    Raises SettingError if there is no such policy, or the run has no checkpoint of that step.
    """
    console = console or Console("quiet")
    if is_run(source):
        return _of_run(source, step, console)
    if step is not None:
        raise SettingError(f"--step {step}: {source} is no run folder (config.yaml with checkpoints); leave --step out")
    decoder, mesh = huggingface.read_config(source), MeshShape().build()
    opened = _open_words(str(source), TokenizerSettings(), decoder)
    with console.reading(str(source)) as progress:
        _, params = huggingface.load(source, _places(decoder, mesh), progress=progress)
    return Policy(source=str(source), decoder=decoder, params=params, mesh=mesh, **opened)


def is_run(source: str | Path) -> bool:
    """Return whether this is a run folder: it has a config.yaml and checkpoints."""
    return layout(source)(source).is_run()


def keep_words(folder: RunFolder | RemoteFolder, start: str, decoder: DecoderConfig, tokenizer: Tokenizer) -> None:
    """Write config.json and tokenizer to a run folder, which make a model of its checkpoints.

    `start` is the initial model; its name is kept if it is a hub id.
    """
    with folder.filling_policy() as place:
        tokenizer.save(place)
        huggingface.write_config(place, decoder, "float32", hub_id=None if Path(start).exists() else start)


def _of_run(path: Path | str, step: int | None, console: Console) -> Policy:
    folder = layout(path)(path)
    config = parse_config(folder.config_yaml(), where=f"{path}/config.yaml")
    number = _number(folder, config.learning.updates_per_batch, step)
    decoder = dataclasses.replace(huggingface.read_config(folder.policy), lora=config.policy.lora)
    mesh, kept = _mesh(config.mesh), dataclasses.replace(config.tokenizer, path=None, chat_template="auto")
    places, base_places = models.split(_places(decoder, mesh), decoder.lora)
    shapes, _ = models.split(models.abstract(decoder), decoder.lora)
    params = load_params(folder.checkpoints, number, placed(shapes, places))
    if broken := not_finite(params, mesh):
        raise SettingError(
            f"{folder.checkpoints}/{number}: NaN or infinite numbers in {some(broken)}; take an earlier step (--step)"
        )
    if decoder.lora:
        with console.reading(config.policy.path) as progress:
            base = huggingface.load(config.policy.path, base_places, progress=progress)[1]
        params = models.join(base, params)
    return Policy(
        source=str(path),
        decoder=decoder,
        params=params,
        mesh=mesh,
        config=config,
        number=number,
        **_open_words(str(folder.policy), kept, decoder),
    )


def _open_words(words: str, settings: TokenizerSettings, decoder: DecoderConfig) -> dict[str, Any]:
    tokenizer = settings.open(words)
    tokenizer.fit(decoder.vocab_size, words)
    return {"words": words, "tokenizer_settings": settings, "tokenizer": tokenizer}


def _number(folder: RunFolder | RemoteFolder, updates: int, step: int | None) -> int:
    """Return the checkpoint after `step` whole steps of `updates` updates; by default the latest of all."""
    numbers = saved_numbers(folder.checkpoints)
    if not numbers:
        raise SettingError(f"{folder.path}: no complete checkpoint there yet")
    if step is None:
        return numbers[-1]
    if step * updates not in numbers:
        steps = ", ".join(str(number // updates) for number in numbers if number % updates == 0)
        raise SettingError(f"--step {step}: {folder.path} has kept the state after these steps: {steps or 'none'}")
    return step * updates


def _mesh(shape: MeshShape) -> Mesh:
    """Return the run's mesh on this machine, or an fsdp mesh if its devices do not fit."""
    try:
        return shape.build()
    except SettingError:
        return MeshShape().build()


def _places(decoder: DecoderConfig, mesh: Mesh) -> Any:
    return shardings(models.abstract(decoder), models.logical_axes(decoder), mesh)
