"""Completions from a JSONL file, to be judged: {"prompt": ..., "completion": ...}, other columns are kept."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dar_jax.data.columns import completion_text, conversation, transcript
from dar_jax.data.jsonl import parse_line, read_lines
from dar_jax.errors import SettingError
from dar_jax.records import Completion, Prompt
from dar_jax.tokens import THOUGHT_END


def read_completions(path: Path) -> Iterator[tuple[dict[str, Any], Completion]]:
    """Read each row with the completion it holds; lines of white space are none.

    A prompt is a string or a list of messages, a completion a string or a list of one assistant message. Raises
    SettingError naming file and line.
    """
    try:
        with path.open("rb") as file:
            for number, line in read_lines(file):
                row = _row(path, number, line)
                yield row, _completion(path, number, row)
    except OSError as fault:
        raise SettingError(f"{path}: cannot be read: {fault.strerror}; expected a JSONL file in UTF-8") from None


def _row(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        return parse_line(line)
    except ValueError as fault:
        raise SettingError(f"{path}, line {number}: it {fault}") from None


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
    prompt = Prompt(id=number, text=text)
    return Completion(prompt=prompt, sample=0, text=completion, token_count=0, ended=True, thought_end=THOUGHT_END)
