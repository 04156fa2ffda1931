"""Settings among the arguments of a command: a config file, then overrides."""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path

from dar_jax.errors import SettingError
from dar_jax.settings.foreign_names import our_key
from dar_jax.settings.packaged import config_path


def file_and_overrides(verb: str, settings: Sequence[str]) -> tuple[Path, list[str]]:
    """Split a verb's arguments into a config file, or the name of a packaged one, and overrides.

    Raises SettingError if no config file comes first.
    """
    if settings and "=" not in settings[0]:
        return config_path(settings[0]), list(settings[1:])
    later = [each for each in settings if "=" not in each]
    if not later:
        raise SettingError(
            f"{verb}: no config file; write: dar-jax {verb} CONFIG [key.sub=value ...], such as {verb} quickstart"
        )
    raise SettingError(
        f"{verb}: the config file {later[0]} comes after an override; write it first: dar-jax {verb} {later[0]}"
        f" {settings[0][:100]}"
    )


def unknown_options(unknown: Sequence[str], arguments: Sequence[str], options: str) -> str:
    """Return the message about options that a verb does not have.

    `options` is the verb's help, `arguments` the whole command line. For a setting written as an option, `--steps 5`,
    the message suggests steps=5.
    """
    message = [f"unrecognized arguments: {' '.join(unknown)}"]
    known = re.findall(r"--[\w-]+", options)
    for option in (each for each in unknown if each.startswith("--")):
        name, equals, value = option[2:].partition("=")
        if near := difflib.get_close_matches(f"--{name}", known, 1, cutoff=0.8):
            message.append(f"did you mean {near[0]}?")
            continue
        key, following = name.replace("-", "_"), arguments[arguments.index(option) + 1 :][:1]
        if not equals and following and not following[0].startswith("--"):
            value = following[0]
        message.append(f"settings have no dashes, write {_override(our_key(key) or key, value)}")
    return "; ".join(message)


def _override(key: str, value: str) -> str:
    return f"{key}={value or 'VALUE'}" if re.fullmatch(r"[\w.]+", key) else key
