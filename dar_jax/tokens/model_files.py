"""Files of a model's folder, which anybody may have made: none outside of the folder is opened, each is read within
bounds.
"""

import json
import re
from pathlib import Path
from typing import Any

from dar_jax.errors import SettingError

HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
MAX_JSON_BYTES = 1 << 26


def inside(folder: Path, name: str) -> Path:
    """Return the file of this name in a folder, there or not.

    Raises SettingError for a name with a path in it, for a link that leads out of the folder (the hub cache keeps a
    snapshot's files in its `blobs`), and for what is no regular file.
    """
    path = folder / name
    if name in ("", "..") or "\0" in name or Path(name).name != name:
        raise SettingError(f"{folder}: it names the file {name[:100]!r}, which is none of the folder's own")
    try:
        real, home = path.resolve(), folder.resolve()
    except (OSError, RuntimeError):  # a link to itself
        raise SettingError(f"{path}: a link that leads nowhere; put the file in its place") from None
    homes = [home, home.parent.parent / "blobs"] if home.parent.name == "snapshots" else [home]
    if not any(real.is_relative_to(each) for each in homes):
        raise SettingError(f"{path}: a link to {real}, outside of the folder; copy the file into it")
    if path.exists() and not path.is_file():
        raise SettingError(f"{path}: no regular file; put the file in its place")
    return path


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises SettingError, naming the file."""
    path = inside(path.parent, path.name)
    try:
        if (size := path.stat().st_size) > MAX_JSON_BYTES:
            raise SettingError(f"{path}: {size:,} bytes; expected a JSON object of at most {MAX_JSON_BYTES:,}")
        found = json.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        raise SettingError(f"{path}: no such file; a checkpoint folder needs it") from None
    except OSError as error:
        raise SettingError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingError(f"{path}: not JSON: it is no text in UTF-8") from None
    except RecursionError:
        raise SettingError(f"{path}: not JSON that can be read: it is nested too deep") from None
    except ValueError as error:
        raise SettingError(f"{path}: not JSON: {error}") from None
    if not isinstance(found, dict):
        raise SettingError(f"{path}: expected a JSON object, got {type(found).__name__}")
    return found
