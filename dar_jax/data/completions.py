"""Completions from a JSONL file, to be judged: {"prompt": ..., "completion": ...}, other columns are kept."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dar_jax.data.columns import completion_text, conversation, transcript
from dar_jax.errors import SettingError
from dar_jax.records import Completion, Prompt


def read_completions(path: Path) -> Iterator[tuple[dict[str, Any], Completion]]:
    """Read each row with the completion it holds; lines of white space are none.

    A prompt is a string or a list of messages, a completion a string or a list of one assistant message. Raises
    SettingError naming file and line.
    """
    try:
        # Only a line feed ends a line: texts hold U+2028 and its like as they are.
        with path.open(encoding="utf-8", newline="\n") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    row = _row(path, number, line)
                    yield row, _completion(path, number, row)
    except (OSError, UnicodeDecodeError) as fault:
        raise SettingError(f"{path}: cannot be read: {fault}; expected a JSONL file in UTF-8") from None


def _row(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as fault:
        raise SettingError(f"{path}, line {number}: not JSON ({fault}); expected one object a line") from None
    if not isinstance(row, dict):
        raise SettingError(f"{path}, line {number}: got {line.strip()[:40]!r}, expected an object")
    return row


def _completion(path: Path, number: int, row: dict[str, Any]) -> Completion:
    column = "prompt"
    try:
        given = row[column]
        text = given if isinstance(given, str) else transcript(conversation(given))
        column = "completion"
        completion = completion_text(row[column])
    except KeyError:
        has = ", ".join(map(str, row)) or "nothing"
        raise SettingError(f"{path}, line {number}: no column {column!r} (it has {has})") from None
    except ValueError as fault:
        raise SettingError(f"{path}, line {number}, column {column!r}: {fault}") from None
    return Completion(prompt=Prompt(id=number, text=text), sample=0, text=completion, token_count=0, ended=True)
