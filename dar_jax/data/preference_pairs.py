"""Pairs that people have labelled: a prompt, the completion they chose and the one they rejected, in TRL's formats."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from dar_jax.data.columns import completion_text, conversation, transcript
from dar_jax.data.prompt_files import Files
from dar_jax.data.source import SIDES, listed
from dar_jax.errors import SettingError
from dar_jax.records import Completion, Prompt
from dar_jax.tokens import THOUGHT_END


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two completions of one prompt; people found `chosen` the better."""

    chosen: Completion
    rejected: Completion


def read_pairs(path: str, split: str = "train", subset: str | None = None) -> list[Pair]:
    """Read a JSONL or parquet file, a dataset folder or a hub id, with the columns prompt, chosen and rejected.

    Each is a string or a list of messages. Without a prompt column, chosen and rejected are whole conversations that
    begin alike: what they share is the prompt. Raises SettingError naming the row.
    """
    try:
        rows = Files(path=path, split=split, subset=subset).rows()
        if not len(rows):
            raise SettingError(f"--data {path}: it has no rows")
        if missing := [name for name in SIDES if name not in rows.columns and rows[0].get(name) is None]:
            raise SettingError(f"--data {path}: it has no column {missing[0]!r} (it has {listed(rows.columns)})")
        return [_pair(path, number, rows[number]) for number in range(len(rows))]
    except SettingError as error:
        raise SettingError(str(error).replace("data.path:", "--data", 1)) from None


def _pair(path: str, number: int, row: Mapping[str, Any]) -> Pair:
    try:
        text, sides = _given(row) if row.get("prompt") is not None else _shared(*(row.get(name) for name in SIDES))
        chosen, rejected = map(completion_text, sides)
    except ValueError as fault:
        raise SettingError(f"--data {path}, row {number + 1}: {fault}") from None
    prompt = Prompt(id=number, text=text)
    return Pair(chosen=_completion(prompt, 0, chosen), rejected=_completion(prompt, 1, rejected))


def _given(row: Mapping[str, Any]) -> tuple[str, Sequence[Any]]:
    given = row["prompt"]
    return given if isinstance(given, str) else transcript(conversation(given)), [row.get(name) for name in SIDES]


def _shared(chosen: Any, rejected: Any) -> tuple[str, Sequence[Any]]:
    if isinstance(chosen, str) or isinstance(rejected, str):
        raise ValueError("without a column 'prompt', chosen and rejected have to be lists of messages that begin alike")
    alike = len(list(takewhile(lambda turns: turns[0] == turns[1], zip(chosen[:-1], rejected[:-1], strict=False))))
    if not alike:
        raise ValueError("chosen and rejected begin with different messages, and there is no column 'prompt'")
    return transcript(conversation(chosen[:alike])), [chosen[alike:], rejected[alike:]]


def _completion(prompt: Prompt, sample: int, text: str) -> Completion:
    return Completion(prompt=prompt, sample=sample, text=text, token_count=0, ended=True, thought_end=THOUGHT_END)
