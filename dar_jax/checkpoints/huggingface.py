"""Hugging Face folders of safetensors: read into a tree of parameters, written back.

Tensors pass one at a time: at most one of our stacked parameters, or one written file, is on the host.
"""

import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from dar_jax.errors import SettingError
from dar_jax.models import DecoderConfig, Params, abstract, families
from dar_jax.models.families.family import Row, Shape

Place = Callable[[tuple[str, ...], np.ndarray], jax.Array]

_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_FLOATS = ("F64", "F32", "F16", "BF16")


def read_config(source: str | Path) -> DecoderConfig:
    """Read the config.json of a local folder or a hub id."""
    return _config(_folder(source, "config.json"))


def load(source: str | Path, place: Place | None = None, dtype: Any = jnp.float32) -> tuple[DecoderConfig, Params]:
    """Read a checkpoint from a local folder or a hub id.

    `place` puts one parameter, given with its path, where it shall lie; by default on the first device.
    Raises SettingError naming, by their HF names, all tensors that are missing, extra or misshapen.
    """
    folder = _folder(source, "config.json", "*.safetensors", _INDEX)
    config = _config(folder)
    params: Params = {}
    with ExitStack() as stack:
        tensors = _open(folder, stack)
        _check(folder, config, tensors)
        for row, shape in _rows(config):
            array = _read(row, shape, tensors, np.dtype(dtype))
            _insert(params, row.path, place(row.path, array) if place else jnp.array(array))
    return config, params


def save(
    directory: str | Path,
    config: DecoderConfig,
    params: Params,
    dtype: Literal["float32", "bfloat16"] = "float32",
    shard_bytes: int = 5_000_000_000,
) -> None:
    """Write config.json and safetensors; above `shard_bytes`, several files and an index.

    The folder appears whole or not at all. Raises SettingError where it exists and is not empty.
    """
    directory = Path(directory).absolute()
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise SettingError(f"{directory}: exists and is not an empty folder; name a new one")
    part = directory.with_name(directory.name + ".part")
    try:
        part.mkdir(parents=True)
        _write_weights(part, config, params, jnp.dtype(dtype), shard_bytes)
        _write_json(part / "config.json", {**families.write(config), "torch_dtype": dtype})
        part.replace(directory)
    except FileExistsError:
        raise SettingError(f"{part}: left by a save that was cut off; delete it first") from None
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def _folder(source: str | Path, *patterns: str) -> Path:
    """Return the local folder, fetching the files that match from the hub where it is a hub id."""
    path = Path(source)
    if path.is_dir():
        return path
    if path.exists() or not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", str(source)):
        raise SettingError(f"{source}: no such folder, and not a hub id like 'Qwen/Qwen3-0.6B'")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(snapshot_download(str(source), allow_patterns=list(patterns)))
    except (OSError, ValueError, HfHubHTTPError) as error:
        reason = " ".join(str(error).split())
        raise SettingError(
            f"{source}: no such folder here, and the hub did not give it ({reason});"
            " offline, name a local folder with config.json and *.safetensors"
        ) from None


def _config(folder: Path) -> DecoderConfig:
    return families.read(_json(folder / "config.json"), str(folder / "config.json"))


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingError(f"{path}: no such file; a checkpoint folder needs it") from None
    except ValueError as error:
        raise SettingError(f"{path}: not JSON: {error}") from None
    if not isinstance(found, dict):
        raise SettingError(f"{path}: expected a JSON object, got {type(found).__name__}")
    return found


def _rows(config: DecoderConfig) -> Iterator[tuple[Row, Shape]]:
    """Go through the lines of the family's table that this decoder has, with our shapes."""
    shapes = abstract(config)
    for row in families.FAMILIES[config.family].rows:
        node: Any = shapes
        for part in row.path:
            node = node.get(part) if node is not None else None
        if node is not None:
            yield row, node.shape


def _names(row: Row, shape: Shape) -> list[tuple[str, Shape]]:
    """List the HF tensors that make up one of our parameters, with their shapes there."""
    if "{}" not in row.name:
        return [(row.name, row.lies.hf_shape(shape))]
    return [(row.name.format(layer), row.lies.hf_shape(shape[1:])) for layer in range(shape[0])]


def _insert(params: Params, path: tuple[str, ...], leaf: jax.Array) -> None:
    for part in path[:-1]:
        params = params.setdefault(part, {})
    params[path[-1]] = leaf


def _open(folder: Path, stack: ExitStack) -> Mapping[str, Any]:
    """Map the name of every tensor in the folder to the open file that holds it."""
    if (folder / _SINGLE).exists():
        files = [_SINGLE]
    elif (folder / _INDEX).exists():
        files = sorted(set(_json(folder / _INDEX).get("weight_map", {}).values()))
    else:
        raise SettingError(f"{folder}: no {_SINGLE} and no {_INDEX}; only safetensors are read")
    tensors: dict[str, Any] = {}
    for file in files:
        try:
            opened = stack.enter_context(safe_open(folder / file, framework="numpy"))
        except (OSError, SafetensorError) as error:
            raise SettingError(f"{folder / file}: missing, cut off or damaged ({error}); fetch it again") from None
        tensors |= dict.fromkeys(opened.keys(), opened)
    return tensors


def _check(folder: Path, config: DecoderConfig, tensors: Mapping[str, Any]) -> None:
    """Compare names, shapes and kinds of number with what config.json asks for, before reading any."""
    wanted = {name: shape for row, ours in _rows(config) for name, shape in _names(row, ours)}
    misshapen = []
    for name in sorted(wanted.keys() & tensors.keys()):
        header = tensors[name].get_slice(name)
        shape, kind = tuple(header.get_shape()), header.get_dtype()
        if shape != wanted[name]:
            misshapen.append(f"{name} {shape} for {wanted[name]}")
        elif kind not in _FLOATS:
            misshapen.append(f"{name} {kind} for a float")
    faults = {
        "missing": sorted(wanted.keys() - tensors.keys()),
        "extra": sorted(tensors.keys() - wanted.keys() - _tied_copies(config, tensors)),
        "misshapen": misshapen,
    }
    if any(faults.values()):
        said = "; ".join(f"{len(names)} {what}: {_some(names)}" for what, names in faults.items() if names)
        raise SettingError(f"{folder}: the tensors do not fit config.json: {said}")


def _tied_copies(config: DecoderConfig, tensors: Mapping[str, Any]) -> set[str]:
    """Name the head that some exporters write beside a tied embedding, if it is the same numbers."""
    names = {row.path[0]: row.name for row in families.FAMILIES[config.family].rows}
    head, embed = names["head"], names["embed"]
    if not config.tied_head or not {head, embed} <= tensors.keys():
        return set()
    one, other = (tensors[name].get_tensor(name) for name in (head, embed))
    return {head} if np.array_equal(one, other) else set()


def _some(names: list[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _read(row: Row, shape: Shape, tensors: Mapping[str, Any], dtype: np.dtype[Any]) -> np.ndarray:
    """Read one of our parameters, its layers one after the other."""
    array = np.empty(shape, dtype)
    names = _names(row, shape)
    places = array if len(names) == shape[0] and "{}" in row.name else array[None]
    for place, (name, _) in zip(places, names, strict=True):
        place[...] = row.lies.to_ours(tensors[name].get_tensor(name), place.shape)
    return array


def _write_weights(folder: Path, config: DecoderConfig, params: Params, dtype: Any, shard_bytes: int) -> None:
    """Write every tensor, layer by layer, beginning a new file where the next would not fit."""
    shards: list[dict[str, Callable[[], np.ndarray]]] = [{}]
    filled = total = 0
    for name, shape, fetch in _tensors(config, params, dtype):
        size = dtype.itemsize * int(np.prod(shape))
        if filled and filled + size > shard_bytes:
            shards.append({})
            filled = 0
        shards[-1][name] = fetch
        filled, total = filled + size, total + size
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors" if len(shards) > 1 else _SINGLE
        save_file({name: fetch() for name, fetch in shard.items()}, folder / file, metadata={"format": "pt"})
        # safetensors makes files only their owner reads; a checkpoint is as readable as its folder.
        (folder / file).chmod(folder.stat().st_mode & 0o666)
        weight_map |= dict.fromkeys(shard, file)
    if len(shards) > 1:
        _write_json(folder / _INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})


def _tensors(
    config: DecoderConfig, params: Params, dtype: Any
) -> Iterator[tuple[str, Shape, Callable[[], np.ndarray]]]:
    """Go through the HF tensors, a layer's together; each is fetched when it is called."""
    found = []
    for row, ours in _rows(config):
        leaf: Any = params
        for part in row.path:
            leaf = leaf[part]
        if leaf.shape != ours:
            raise ValueError(f"{'/'.join(row.path)}: shape {leaf.shape}, but {ours} by the config")
        for layer, (name, shape) in enumerate(_names(row, ours)):
            index = layer if "{}" in row.name else ...
            found.append((layer, name, shape, _fetch(leaf, index, row, dtype)))
    for _, name, shape, fetch in sorted(found, key=lambda item: item[0]):
        yield name, shape, fetch


def _fetch(leaf: Any, index: Any, row: Row, dtype: Any) -> Callable[[], np.ndarray]:
    return lambda: np.ascontiguousarray(row.lies.to_hf(np.asarray(leaf[index])).astype(dtype))


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
