"""A set of prompts: rows read on demand, with the names of the columns that matter."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from dar_jax.data.columns import (
    completion_text,
    conversation,
    template_arguments,
    template_turns,
    tools,
    transcript,
)
from dar_jax.errors import SettingError
from dar_jax.records import Prompt

# Columns with the names that TRL gives them, which reach the chat template.
TOOLS, ARGUMENTS = "tools", "chat_template_kwargs"
SIDES = ("chosen", "rejected")


class Rows(Protocol):
    """What a source reads: a list of dicts, a file of JSON or an Arrow table."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Mapping[str, Any]: ...


@dataclass(frozen=True, kw_only=True)
class Source(Sequence[Prompt]):
    """Prompts in the order they came in: `source[i].id == i`.

    `where` names the set in messages; `split` is what was read of it. A row that cannot be read as
    a prompt raises SettingError naming the row, when it is asked for.
    """

    rows: Rows = field(repr=False)
    where: str
    split: str
    columns: tuple[str, ...]
    prompt_column: str = "prompt"
    completion_column: str = "completion"

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any, /) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(f"{self.where}: row {index} of {len(self)}")
        return self._prompt(index, self.rows[int(index)])

    def __iter__(self) -> Iterator[Prompt]:
        return (self._prompt(index, self.rows[index]) for index in range(len(self)))

    def completion(self, index: int) -> str:
        """Return the demonstration of a row: the text of its completion column.

        Raises SettingError where the set has no such column or the row no such text.
        """
        row = self.rows[int(index)]
        if self.completion_column not in self.columns and row.get(self.completion_column) is None:
            raise SettingError(
                f"data.completion_column: {self.where} has no column {self.completion_column!r}"
                f" to learn from (it has {listed(self.columns)}); name the demonstrations"
            )
        return self._text(index, row, self.completion_column)

    def pair(self, index: int) -> tuple[str, str]:
        """Return the completions of a row that were chosen and rejected. Raises as `completion` does."""
        if missing := [name for name in SIDES if name not in self.columns]:
            raise SettingError(
                f"data: {self.where} has no column {missing[0]!r} to learn from (it has {listed(self.columns)}); an"
                " algorithm that learns from recorded pairs needs the columns chosen and rejected"
            )
        row = self.rows[int(index)]
        return self._text(index, row, "chosen"), self._text(index, row, "rejected")

    def _text(self, index: int, row: Mapping[str, Any], column: str) -> str:
        try:
            return completion_text(row.get(column))
        except ValueError as fault:
            raise self._unreadable(index, column, fault) from None

    def _prompt(self, index: int, row: Mapping[str, Any]) -> Prompt:
        column = self.prompt_column
        try:
            cell = row.get(column)
            if isinstance(cell, str):
                text, messages, turns = cell, None, None
            else:
                messages, turns = conversation(cell), template_turns(cell)
                text = transcript(messages)
            column = TOOLS
            found = tools(row.get(column))
            column = ARGUMENTS
            arguments = template_arguments(row.get(column))
        except ValueError as fault:
            raise self._unreadable(index, column, fault) from None
        return Prompt(
            id=int(index), text=text, messages=messages, turns=turns, tools=found, template_arguments=arguments
        )

    def _unreadable(self, index: int, column: str, fault: ValueError) -> SettingError:
        return SettingError(f"{self.where}: row {index}, column {column!r}: {fault}")


def listed(names: Sequence[str]) -> str:
    """Return up to twelve columns or splits for a message."""
    shown = ", ".join(names[:12])
    return f"{shown}, ..." if len(names) > 12 else shown or "none"
