"""A policy to speak with or to hand on: from a run's checkpoint or a Hugging Face folder, without an optimizer."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from dar_jax import models
from dar_jax.checkpoints import huggingface, load_params, saved_numbers
from dar_jax.config import RunConfig
from dar_jax.config_file import parse_config
from dar_jax.errors import SettingError
from dar_jax.models import DecoderConfig, Params
from dar_jax.parallel import TRAIN_RULES, MeshShape, shardings
from dar_jax.runlog import RunFolder
from dar_jax.tokens import Tokenizer, TokenizerSettings


@dataclass(frozen=True, kw_only=True)
class Policy:
    """A model with its tokenizer, its float32 parameters laid out on the mesh.

    `config` and `number`, the checkpoint's, are those of the run it comes from; None without a run.
    """

    source: str
    decoder: DecoderConfig
    tokenizer: Tokenizer
    params: Params
    mesh: Mesh
    config: RunConfig | None = None
    number: int | None = None


def open_policy(source: str | Path, step: int | None = None) -> Policy:
    """Open the policy of a run folder, after `step` steps (default: as last saved), or of a folder or hub id.

    Raises SettingError where there is no such policy, or the run has not kept that step.
    """
    if is_run(source):
        return _of_run(Path(source), step)
    if step is not None:
        raise SettingError(f"--step {step}: {source} is no run folder (config.yaml with checkpoints); leave --step out")
    mesh = MeshShape().build()
    decoder = huggingface.read_config(source)
    tokenizer = TokenizerSettings().open(str(source))
    places = _places(decoder, mesh)

    def place(path: tuple[str, ...], array: Any) -> jax.Array:
        sharding: Any = places
        for name in path:
            sharding = sharding[name]
        return jax.device_put(array, sharding)

    _, params = huggingface.load(source, place)
    return Policy(source=str(source), decoder=decoder, tokenizer=tokenizer, params=params, mesh=mesh)


def is_run(source: str | Path) -> bool:
    """Tell a run folder from a model's: it has a config.yaml and checkpoints."""
    return (Path(source) / "config.yaml").is_file() and (Path(source) / "checkpoints").is_dir()


def _of_run(path: Path, step: int | None) -> Policy:
    folder = RunFolder(path)
    config = parse_config(folder.config_yaml(), where=str(path / "config.yaml"))
    number = _number(folder, config.learning.updates_per_batch, step)
    decoder = huggingface.read_config(config.policy.path)
    tokenizer = config.tokenizer.open(config.policy.path)
    mesh = _mesh(config.mesh)
    wanted = jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
        models.abstract(decoder),
        _places(decoder, mesh),
    )
    return Policy(
        source=str(path),
        decoder=decoder,
        tokenizer=tokenizer,
        params=load_params(folder.checkpoints, number, wanted),
        mesh=mesh,
        config=config,
        number=number,
    )


def _number(folder: RunFolder, updates: int, step: int | None) -> int:
    """Find the checkpoint after `step` whole steps of `updates` updates; by default the newest, even within a step."""
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
    """Lay this machine's devices out as the run did, or, where it has others, simply side by side."""
    try:
        return shape.build()
    except SettingError:
        return MeshShape().build()


def _places(decoder: DecoderConfig, mesh: Mesh) -> Any:
    return shardings(models.abstract(decoder), models.logical_axes(decoder), mesh, TRAIN_RULES)
