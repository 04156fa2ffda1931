"""The rows of a file of completions, as they come and as they go: with a verdict each."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from dar_jax.data.completions import read_completions
from dar_jax.errors import SettingError
from dar_jax.records import Completion, Verdict
from dar_jax.runlog.rows import to_lines

JudgedRow = tuple[dict[str, Any], Completion]
COLUMNS = ("status", "reward", "reason", "served_model", "probabilities")
# Before the name of a column of the input that is called as one of these.
_KEPT = "given_"


class Size(NamedTuple):
    """How much there is to judge: rows, and the bytes of their prompts and completions."""

    rows: int
    prompts: int
    completions: int


def count_rows(given: Path) -> Size:
    """Count the rows; find what is wrong with any before the first is paid for. Raises SettingError."""
    total = prompts = completions = 0
    for row, completion in read_completions(given):
        total += 1
        prompts += len(completion.prompt.text.encode("utf-8", "replace"))
        completions += len(completion.text.encode("utf-8", "replace"))
        if taken := [name for name in COLUMNS if f"{_KEPT}{name}" in row and name in row]:
            raise SettingError(
                f"{given}: it has both {taken[0]!r} and {_KEPT + taken[0]!r}, the name under which the former would be"
                " kept; rename one"
            )
    if not total:
        raise SettingError(f"{given}: it has no rows; expected one object a line")
    return Size(total, prompts, completions)


def to_line(row: JudgedRow, verdict: Verdict) -> bytes:
    """Write a row with its verdict as a line of JSON in UTF-8; what is not `ok` has no number."""
    columns, _ = row
    return _line(_kept(columns) | _columns(verdict))


def _kept(row: dict[str, Any]) -> dict[str, Any]:
    """Keep columns of the input that are called as ours: another judge's, say."""
    return {f"{_KEPT}{name}" if name in COLUMNS else name: value for name, value in row.items()}


def _columns(verdict: Verdict) -> dict[str, Any]:
    found = verdict.distribution
    values = (verdict.status, verdict.reward, verdict.reason, verdict.served_model, found and found.probabilities)
    return dict(zip(COLUMNS, values, strict=True))


def _line(row: dict[str, Any]) -> bytes:
    (line,) = to_lines([row])
    try:
        return line.encode()
    except UnicodeEncodeError:  # half a character, which JSON can hold and UTF-8 cannot
        return f"{json.dumps(json.loads(line))}\n".encode()
