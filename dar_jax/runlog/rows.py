"""Rows of a log as JSON lines in UTF-8."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from dar_jax.errors import SettingError
from dar_jax.terminal.json_text import plain

LOGS = ("metrics", "completions", "evaluations", "timeline", "not_finite")


class Line(NamedTuple):
    """A complete line of a log, with its line end, and its row."""

    content: bytes
    row: dict[str, Any]


def to_lines(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return rows as lines. NaN and infinities become null."""
    return [json.dumps(plain(row), ensure_ascii=False) + "\n" for row in rows]


def to_bytes(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Return rows as lines in UTF-8; lone surrogates become JSON escapes."""
    return "".join(to_lines(rows)).encode("utf-8", "backslashreplace")


def from_lines(lines: Iterable[bytes], where: str) -> Iterator[Line]:
    """Yield the lines of a log, each with a `step`. A last line without its end was torn by a kill and is skipped.

    Raises SettingError with the line number if another one is damaged.
    """
    for number, line in enumerate(lines, 1):
        if not line.endswith(b"\n"):
            return
        try:
            row = json.loads(line.decode())
        except (ValueError, RecursionError) as fault:  # ValueError is also UTF-8's
            raise _damaged(where, number, str(fault)) from None
        if not isinstance(row, dict) or not isinstance(row.get("step"), int):
            raise _damaged(where, number, "no JSON object with a `step`")
        yield Line(line, row)


def _damaged(where: str, number: int, why: str) -> SettingError:
    return SettingError(
        f"{where}, line {number}: damaged ({why}); put the file back from a copy, or delete this line and lose its row"
    )
