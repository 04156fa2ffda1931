"""Configs and assets that come with the package: `configs` and `assets` of a checkout or of the installed package."""

import difflib
import json
import re
from pathlib import Path

from dar_jax.errors import SettingError

_PACKAGE = Path(__file__).resolve().parents[1]
_ROOT = _PACKAGE if (_PACKAGE / "configs").is_dir() else _PACKAGE.parent
_ASSET = re.compile(r"(?<=[ {\[])assets/[\w./-]+")


def config_names() -> list[str]:
    """Return the names of the configs that come with the package."""
    return sorted(path.stem for path in (_ROOT / "configs").glob("*.yaml"))


def config_path(text: str) -> Path:
    """Return the path of a config: a file, or a packaged config by its bare name.

    A file of that name comes first. Raises SettingError for a bare name that is neither.
    """
    path = Path(text).expanduser()
    if path.exists() or path.suffix or len(path.parts) != 1:
        return path
    if text in (names := config_names()):
        return _ROOT / "configs" / f"{text}.yaml"
    near = difflib.get_close_matches(text, names, 1)
    hint = f"did you mean {near[0]}?" if near else f"those that come with dar_jax are {', '.join(names)}"
    raise SettingError(f"{text}: there is no such file and no such config; {hint}")


def with_asset_paths(text: str, path: Path) -> str:
    """Return the text of a config; in a packaged one `assets/...` becomes the path of the packaged asset.

    A run then starts from any working directory.
    """
    if not path.resolve().is_relative_to(_ROOT / "configs"):
        return text
    return _ASSET.sub(lambda found: json.dumps(str(_ROOT / found[0])), text)
