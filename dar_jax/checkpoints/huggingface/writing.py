"""Write parameters as a Hugging Face folder: config.json and safetensors, one tensor on the host at a time."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np

from dar_jax.checkpoints.huggingface.folder import new_folder, write_json
from dar_jax.checkpoints.huggingface.layout import Part, joined_shape, tensors
from dar_jax.checkpoints.huggingface.shards import INDEX, SINGLE, is_finite, write_shard
from dar_jax.errors import SettingError
from dar_jax.models import DecoderConfig, Params, families

Dtype = Literal["float32", "bfloat16"]

_Shard = dict[str, tuple[tuple[int, ...], Callable[[], np.ndarray]]]


def save(
    directory: str | Path,
    config: DecoderConfig,
    params: Params,
    dtype: Dtype = "float32",
    shard_bytes: int = 5_000_000_000,
) -> None:
    """Write a new folder with config.json and safetensors; above `shard_bytes`, several files and an index.

    The folder is written atomically. Raises SettingError if it exists and is not empty, or a tensor is not finite.
    """
    with new_folder(directory) as folder:
        write_model(folder, config, params, dtype, shard_bytes)


def write_model(
    folder: Path, config: DecoderConfig, params: Params, dtype: Dtype = "float32", shard_bytes: int = 5_000_000_000
) -> None:
    """Write config.json and safetensors into an existing folder."""
    shards, total = _shards(config, params, jnp.dtype(dtype), shard_bytes)
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors" if len(shards) > 1 else SINGLE
        write_shard(folder / file, shard, jnp.dtype(dtype))
        weight_map |= dict.fromkeys(shard, file)
    if len(shards) > 1:
        write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})
    write_config(folder, config, dtype)


def write_config(folder: Path, config: DecoderConfig, dtype: Dtype, hub_id: str | None = None) -> None:
    """Write config.json; `hub_id` is the original model."""
    name = {"_name_or_path": hub_id} if hub_id else {}
    # transformers 5 writes `dtype`; what came before reads `torch_dtype`.
    write_json(folder / "config.json", {**name, **families.write(config), "torch_dtype": dtype, "dtype": dtype})


def _shards(config: DecoderConfig, params: Params, dtype: np.dtype[Any], shard_bytes: int) -> tuple[list[_Shard], int]:
    """Return the tensors of each file, starting a new one if the next does not fit, and the total bytes."""
    shards: list[_Shard] = [{}]
    filled = total = 0
    for name, held in tensors(config).items():
        shape = joined_shape(held)
        size = math.prod(shape) * dtype.itemsize
        if filled and filled + size > shard_bytes:
            shards.append({})
            filled = 0
        shards[-1][name] = shape, _fetch(held, params, dtype)
        filled, total = filled + size, total + size
    return shards, total


def _fetch(held: Sequence[Part], params: Params, dtype: np.dtype[Any]) -> Callable[[], np.ndarray]:
    leaves = [_leaf(part, params) for part in held]

    def fetch() -> np.ndarray:
        arrays = [
            part.layout.to_hf(np.asarray(leaf if part.layer is None else leaf[part.layer]))
            for part, leaf in zip(held, leaves, strict=True)
        ]
        joined = (arrays[0] if len(arrays) == 1 else np.concatenate(arrays)).astype(dtype, copy=False)
        check_finite(held[0].name, joined)
        return joined

    return fetch


def check_finite(name: str, tensor: np.ndarray) -> None:
    """Raise SettingError if a tensor to be written has NaN or infinite numbers."""
    if not is_finite(tensor):
        raise SettingError(
            f"{name}: NaN or infinite numbers as {tensor.dtype}; nothing was written: take an earlier step, or float32"
        )


def _leaf(part: Part, params: Params) -> Any:
    leaf: Any = params
    for name in part.path:
        leaf = leaf[name]
    found = leaf.shape if part.layer is None else leaf.shape[1:]
    if found != part.shape:
        raise ValueError(f"{'/'.join(part.path)}: shape {found} of a layer, but {part.shape} by the config")
    return leaf
