"""Rows of an Arrow table of the `datasets` library: of a row only the cells that are asked for are read."""

from collections.abc import Iterator, Mapping
from typing import Any


class TableRows:
    """The rows of a table."""

    def __init__(self, table: Any) -> None:
        self._length, self.columns = len(table), tuple(table.column_names)
        self._by_name = {name: table.select_columns([name]) for name in self.columns}

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int, /) -> Mapping[str, Any]:
        return _TableRow(self._by_name, index)


class _TableRow(Mapping[str, Any]):
    """A row whose cells are read by name. Raises ValueError for one that is not UTF-8."""

    def __init__(self, by_name: Mapping[str, Any], index: int) -> None:
        self._by_name, self._index = by_name, index

    def __getitem__(self, name: str) -> Any:
        column = self._by_name[name]
        try:
            return column[self._index][name]
        except UnicodeDecodeError:
            raise ValueError("not UTF-8; write the file again from text in UTF-8") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)
