"""YAML files of settings and the `key.sub=value` overrides of a command line, as plain values; nothing is validated.

OmegaConf reads and merges: it takes 1e-6 for a number.
"""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from dar_jax.errors import SettingError


def read_text(path: Path) -> str:
    """Read a config file; a SettingError names a similar file where there is none."""
    if not path.is_file():
        raise SettingError(f"{path}: there is no such config file{_similar_file(path)}")
    return path.read_text(encoding="utf-8")


def merged(text: str, overrides: Sequence[str] = (), *, where: str) -> dict[str, Any]:
    """Put overrides on top of YAML text; `where` names it in a SettingError."""
    try:
        file = OmegaConf.create(text)
        if not OmegaConf.is_dict(file):
            raise SettingError(f"{where}: expected `key: value` lines, got a list")
        changes = _overrides(overrides)
        _drop_replaced(file, changes)
        settings = OmegaConf.to_container(OmegaConf.merge(file, changes), resolve=True, throw_on_missing=True)
    except (YAMLError, OmegaConfBaseException, ValueError) as fault:
        raise SettingError(f"{where}: not readable as YAML: {' '.join(str(fault).split())}") from None
    assert isinstance(settings, dict)
    return {str(key): value for key, value in settings.items()}


def _overrides(overrides: Sequence[str]) -> Any:
    for override in overrides:
        key, equals, _ = override.partition("=")
        if not equals or not key.strip("."):
            raise SettingError(f"{override!r}: not an override; write key.sub=value, such as steps=10")
    return OmegaConf.from_dotlist(list(overrides))


def _drop_replaced(file: Any, changes: Any) -> None:
    """Forget the settings of a component where the overrides name another kind: they would not fit it."""
    for key in changes:
        before, after = file.get(key), changes[key]
        if not (OmegaConf.is_dict(before) and OmegaConf.is_dict(after)):
            continue
        if "name" in after and "name" in before and after.name != before.name:
            del file[key]
        else:
            _drop_replaced(before, after)


def _similar_file(path: Path) -> str:
    folder = path.parent if path.parent.is_dir() else Path()
    near = difflib.get_close_matches(path.name, [each.name for each in folder.glob("*.yaml")], 1)
    return f"; did you mean {folder / near[0]}?" if near else ""
