"""Append, read and truncate a log of a run folder on a disk."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dar_jax.runlog.rows import from_lines, to_bytes


def private(path: str | Path, flags: int) -> int:
    """Open a file; a new one can be read by its owner alone. For `open(opener=private)`."""
    return os.open(path, flags, 0o600)


def append(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Append rows, a line each."""
    with open(file, "ab", opener=private) as log:
        log.write(to_bytes(rows))


def read(file: Path) -> list[dict[str, Any]]:
    """Return the complete rows; [] without a file. Raises SettingError if a line is damaged."""
    if not file.exists():
        return []
    with file.open("rb") as lines:
        return [line.row for line in from_lines(lines, str(file))]


def keep_steps(file: Path, limit: int) -> None:
    """Drop the rows of steps above `limit` and a torn last line. Raises SettingError if a line is damaged."""
    if not file.exists():
        return
    with file.open("rb") as lines:
        kept = [(line.row["step"] <= limit, len(line.content)) for line in from_lines(lines, str(file))]
    head = next((index for index, (keep, _) in enumerate(kept) if not keep), len(kept))
    if any(keep for keep, _ in kept[head:]):
        _rewrite(file, limit)
    else:  # in place, which also works on a full disk
        os.truncate(file, sum(length for _, length in kept[:head]))


def _rewrite(file: Path, limit: int) -> None:
    """Rewrite the kept rows, which are not contiguous: two processes have written here."""
    scratch = file.with_suffix(".tmp")
    with file.open("rb") as lines, open(scratch, "wb", opener=private) as log:
        log.writelines(line.content for line in from_lines(lines, str(file)) if line.row["step"] <= limit)
    scratch.replace(file)
