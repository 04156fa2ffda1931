"""Model folders: find one locally or on the hub, read its config, create one atomically."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dar_jax.errors import SettingError
from dar_jax.models import DecoderConfig, families
from dar_jax.tokens.model_files import HUB_ID, read_json

_ADAPTER = "adapter_config.json"


def find(source: str | Path, *patterns: str) -> Path:
    """Return the local folder, after downloading the matching files if it is a hub id."""
    path = Path(source)
    if path.is_dir():
        return path
    if path.exists() or not HUB_ID.fullmatch(str(source)):
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


def read_config(source: str | Path) -> DecoderConfig:
    """Read the config.json of a local folder or a hub id. Raises SettingError, also for a folder of adapters alone."""
    folder = find(source, "config.json", _ADAPTER)
    file = folder / "config.json"
    if not file.exists() and (folder / _ADAPTER).exists():
        base = str(read_json(folder / _ADAPTER).get("base_model_name_or_path"))[:200]
        raise SettingError(
            f"{source}: an adapter of {base}; merge it first (peft merge_and_unload) and name the result"
        )
    return families.read(read_json(file), str(file))


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write an indented JSON object."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@contextmanager
def new_folder(directory: str | Path) -> Iterator[Path]:
    """Yield a folder to fill, which is renamed to `path` at the end of the block, and removed after an error.

    Raises SettingError if the name is taken: nothing is overwritten.
    """
    directory = Path(directory).absolute()
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise SettingError(f"{directory}: exists and is not an empty folder; name a new one")
    part = directory.with_name(directory.name + ".part")
    try:
        part.mkdir(parents=True)
    except FileExistsError:
        raise SettingError(f"{part}: left by a save that was cut off; delete it first") from None
    try:
        yield part
        part.replace(directory)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
