"""The files of a tokenizer: where they lie, what they state, and how they are handed on.

A hub id becomes a local folder by one fetch of the small files; all else reads that folder.
"""

import json
import os
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dar_jax.errors import SettingError
from dar_jax.tokens.bounded_jinja import MAX_SOURCE_CHARS
from dar_jax.tokens.model_files import HUB_ID, inside, read_json

_TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "*.model",
    "*.model.v*",
    "*.tiktoken",
    "tekken.json",
    "chat_template.jinja",
)
_TEMPLATES = "additional_chat_templates"
_MAX_BYTES = 1 << 28
_CONFIG, _GENERATION, _TEMPLATE = "tokenizer_config.json", "generation_config.json", "chat_template.jinja"


def folder(source: str) -> Path:
    """Return the local folder of a tokenizer or model, fetching its small files where it is a hub id.

    Raises SettingError where there is none, at once when the hub cannot be reached.
    """
    path = Path(source)
    if path.is_dir():
        return path
    if path.exists() or not HUB_ID.fullmatch(source):
        raise SettingError(f"tokenizer.path: {source}: no such folder, and not a hub id like 'Qwen/Qwen3-0.6B'")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(snapshot_download(source, allow_patterns=[*_TOKENIZER, _GENERATION, "config.json"]))
    except (OSError, ValueError, HfHubHTTPError) as error:
        reason = " ".join(str(error).split())[:200]
        raise SettingError(
            f"tokenizer.path: {source}: no such folder here, and the hub did not give it ({reason});"
            " offline, name a local folder with tokenizer.json"
        ) from None


def read(place: Path, where: str) -> Any:
    """Read the tokenizer in a folder. Where there is a tokenizer.json, it is the whole truth.

    `AutoTokenizer` would put a model type's own class in its place (Qwen2's and Llama's among them), which builds
    another way to split words from the same vocabulary.
    """
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # it would advise to install PyTorch
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    whole = (place / "tokenizer.json").is_file()
    given = _check_files(place, where)
    if not whole:
        _check_readable(place, where)
        given["trust_remote_code"] = False
    try:
        return (PreTrainedTokenizerFast if whole else AutoTokenizer).from_pretrained(str(place), **given)
    except BaseException as fault:  # the library raises what its many readers raise, Rust's panics among them
        if isinstance(fault, KeyboardInterrupt | SystemExit):
            raise
        reason = " ".join(str(fault).split())[:200]
        raise SettingError(f"tokenizer.path: cannot read a tokenizer from {where}: {reason}") from fault


def stated_ends(place: Path, *names: str) -> set[int]:
    """Collect the end ids that the model's own files state; a model may end in several ways."""
    ends: set[int] = set()
    for name in names or (_GENERATION, "config.json"):
        stated = _json(place / name).get("eos_token_id")
        listed = stated if isinstance(stated, list) else [] if stated is None else [stated]
        if any(type(each) is not int or not 0 <= each < 1 << 31 for each in listed):
            raise SettingError(
                f"{place / name}: eos_token_id {str(stated)[:60]}; expected a token id, or a list of them"
            )
        ends |= set(listed)
    return ends


def generation_settings(source: str) -> dict[str, Any]:
    """Return what a model's generation_config.json states; nothing where it has none."""
    return _json(folder(source) / _GENERATION)


def template_file(path: str) -> str:
    """Read a chat template from a file of the user's."""
    try:
        with Path(path).expanduser().open(encoding="utf-8-sig") as file:
            return file.read(MAX_SOURCE_CHARS + 1)
    except (OSError, UnicodeDecodeError) as fault:
        reason = fault.strerror if isinstance(fault, OSError) else "it is no text in UTF-8"
        raise SettingError(
            f"tokenizer.chat_template: cannot read {path} ({reason});"
            " expected auto, none or a file that holds a template"
        ) from fault


def copy(place: Path, directory: Path) -> None:
    """Copy a tokenizer's files as they are: whatever reads the copy splits words as it would the original's."""
    directory.mkdir(parents=True, exist_ok=True)
    for pattern in _TOKENIZER:
        for file in place.glob(pattern):
            shutil.copyfile(file, directory / file.name)


def replace_template(directory: Path, template: str | None) -> None:
    """Replace the chat template of the files by another, or by none."""
    config = _json(directory / _CONFIG)
    if config.pop("chat_template", None) is not None:
        _write_json(directory / _CONFIG, config)
    (directory / _TEMPLATE).unlink(missing_ok=True)
    if template is not None:
        (directory / _TEMPLATE).write_text(template, encoding="utf-8")


def write_generation(place: Path | None, directory: Path, eos_ids: frozenset[int], pad_id: int) -> None:
    """Write a generation_config.json with all ends, and with what the one in `place` states besides."""
    stated = _json(place / _GENERATION) if place else {}
    _write_json(directory / _GENERATION, {**stated, "eos_token_id": sorted(eos_ids), "pad_token_id": pad_id})


def _check_files(place: Path, where: str) -> dict[str, Any]:
    """Return what keeps the library from files that tokenizer_config.json names. Raises SettingError for a file of the
    tokenizer that is a link out of the folder, or too large.
    """
    names = {file.name for pattern in (*_TOKENIZER, _GENERATION) for file in place.glob(pattern)}
    for name in sorted(names):
        if (size := inside(place, name).stat().st_size) > _MAX_BYTES:
            raise SettingError(f"tokenizer.path: {where}: {name} has {size:,} bytes; expected at most {_MAX_BYTES:,}")
    for file in (place / _TEMPLATES).glob("*.jinja"):
        inside(place / _TEMPLATES, file.name)
    given: dict[str, Any] = {name: None for name in _json(place / _CONFIG) if name.endswith("_file")}
    if "tokenizer_file" in given:
        given["tokenizer_file"] = str(place / "tokenizer.json")
    return given


def _check_readable(place: Path, where: str) -> None:
    if (place / "vocab.json").is_file() or (place / "tekken.json").is_file():
        return
    if not any(place.glob("*.model")):
        raise SettingError(f"tokenizer.path: cannot read a tokenizer from {where}: it has no tokenizer.json")
    if find_spec("sentencepiece") is None and find_spec("tiktoken") is None:
        raise SettingError(
            f"tokenizer.path: cannot read a tokenizer from {where}: it has a tokenizer.model and no tokenizer.json;"
            " install the packages sentencepiece and protobuf (tiktoken for a Llama 3), or add the tokenizer.json"
        )


def _json(path: Path) -> dict[str, Any]:
    return read_json(path) if path.exists() or path.is_symlink() else {}


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
