"""What a command writes: a file that appears whole or not at all and never over another, or a folder."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dar_jax.errors import DarError, SettingError


@contextmanager
def new_file(path: Path, option: str = "--output") -> Iterator[Path]:
    """Give the name of a scratch file beside `path`; what is written there becomes `path` when the block ends well.

    Raises SettingError where something is there already or nothing can be written, DarError when the disk fails.
    """
    refuse_taken(path, option)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-")
    except OSError as fault:
        raise SettingError(f"{option} {path}: cannot be written ({fault.strerror}); choose another place") from None
    # A folder, since SQLite leaves files beside its own.
    with scratch as folder:
        file = Path(folder) / path.name
        try:
            yield file
            refuse_taken(path, option)
            file.rename(path)
        except OSError as fault:
            raise DarError(f"{option} {path}: cannot be written ({fault}); nothing was left there") from None


def output_folder(path: Path, option: str = "--output") -> None:
    """Make a folder for a command's files, where it is not there yet. Raises SettingError where that cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as fault:
        raise SettingError(f"{option} {path}: cannot be written ({fault.strerror}); choose another place") from None


def refuse_taken(path: Path, option: str = "--output") -> None:
    """Raise SettingError where something is there already."""
    if path.exists():
        raise SettingError(f"{option} {path}: it is there already; name another file, or move it away")
