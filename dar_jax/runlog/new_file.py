"""Output of a command: a file written atomically and never over another, or a folder."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dar_jax.errors import DarError, SettingError


@contextmanager
def new_file(path: Path, option: str = "--output") -> Iterator[Path]:
    """Yield the path of a scratch file, which is renamed to `path` when the block ends without an error.

    Raises SettingError if something is there already or nothing can be written, DarError if the disk fails.
    """
    refuse_taken(path, option)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-")
    except OSError as fault:
        raise SettingError(f"{option} {path}: cannot be written ({fault.strerror}); choose another path") from None
    # A folder, since SQLite writes side files.
    with scratch as folder:
        file = Path(folder) / path.name
        try:
            yield file
            refuse_taken(path, option)
            file.rename(path)
        except OSError as fault:
            raise DarError(f"{option} {path}: cannot be written ({fault}); nothing was left there") from None


def output_folder(path: Path, option: str = "--output") -> None:
    """Create a folder for a command's files, if missing. Raises SettingError if it cannot be written."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as fault:
        raise SettingError(f"{option} {path}: cannot be written ({fault.strerror}); choose another path") from None


def refuse_taken(path: Path, option: str = "--output") -> None:
    """Raise SettingError if something is there already."""
    if path.exists():
        raise SettingError(f"{option} {path}: it is there already; name another file, or move it away")
